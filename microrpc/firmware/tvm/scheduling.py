"""The plain schedule of a model's kernels: what a small core has little of is memory, and that is what it saves.

TVM's own default computes every stage of a fused kernel into a buffer of its own. Here a stage that is elementwise goes
into the one that reads it, and a reduction sums up in one number, which the stage behind it takes at once: so a
convolution with bias and relu needs no buffer but that of its padding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_SPATIAL, _REDUCTION = 0, 2  # kinds of a block's iterators


def schedule_kernel(function: Any) -> Any:
    """Schedule a PrimFunc; give it as it is where it has a schedule already, or is none of TE's making.

    A step of the schedule that TVM refuses is left out: the result is the same, and takes more memory.
    """
    import tvm
    from tvm.s_tir import Schedule

    if function.attrs.get("tirx.is_scheduled", None) or function.attrs.get("s_tir.is_scheduled", None):
        return function
    try:
        schedule = Schedule(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}))
        blocks = list(schedule.get_child_blocks(schedule.get_sblock("root")))
    except (RuntimeError, ValueError, TypeError):
        return function
    for block in blocks:
        if _goes_into_its_consumer(schedule, block):
            schedule = _attempted(schedule, functools.partial(_inline, block=block))
    for block in blocks:
        schedule = _with_sum_in_one_number(schedule, block)
    return schedule.mod["main"]


def _attempted(schedule: Any, change: Callable[[Any], None]) -> Any:
    """Give a copy of the schedule with the change, or the schedule itself where TVM refuses that."""
    tried = schedule.copy()
    try:
        change(tried)
    except (RuntimeError, ValueError):
        return schedule
    return tried


def _inline(schedule: Any, block: Any) -> None:
    schedule.compute_inline(block)


def _kinds(schedule: Any, block: Any) -> list[int]:
    return [int(iterator.iter_type) for iterator in schedule.get(block).iter_vars]


def _iterations(schedule: Any, block: Any) -> int:
    count = 1
    for iterator in schedule.get(block).iter_vars:
        count *= int(iterator.dom.extent)
    return count


def _goes_into_its_consumer(schedule: Any, block: Any) -> bool:
    """Whether an elementwise stage is computed where it is read: once there, too, so that nothing is computed twice.

    Padding stays a buffer where each of its elements is read more than once: a branch in the innermost loop costs more.
    """
    consumers = schedule.get_consumers(block)
    if len(consumers) != 1 or any(kind != _SPATIAL for kind in _kinds(schedule, block)):
        return False
    return _iterations(schedule, consumers[0]) <= _iterations(schedule, block)


def _with_sum_in_one_number(schedule: Any, block: Any) -> Any:
    """Give the schedule in which a reduction sums up in one number, or the same one where that cannot be."""
    try:
        kinds = _kinds(schedule, block)
    except (RuntimeError, ValueError):
        return schedule  # it was inlined
    spatial = kinds.count(_SPATIAL)
    if _REDUCTION not in kinds or kinds != [_SPATIAL] * spatial + [_REDUCTION] * (len(kinds) - spatial):
        return schedule
    if spatial == 0 or len(schedule.get_loops(block)) != len(kinds):
        return schedule

    def narrow(tried: Any) -> None:
        consumers = tried.get_consumers(block)
        if not consumers:
            consumers = [tried.cache_write(block, 0, "global")]
        if len(consumers) == 1 and _kinds(tried, consumers[0]) == [_SPATIAL] * spatial:
            tried.reverse_compute_at(consumers[0], tried.get_loops(block)[spatial - 1])

    def begin_outside(tried: Any) -> None:
        tried.decompose_reduction(block, tried.get_loops(block)[spatial])

    return _attempted(_attempted(schedule, narrow), begin_outside)
