"""What was measured of a model: how long it and its layers take (docs/using_models.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from microrpc.errors import counted, printable
from microrpc.wire.memory import BoardMemory
from microrpc.wire.model import ModelProfile, ModelTable

_MANY_US = 1000  # from here on a table has milliseconds


@dataclass(frozen=True, slots=True)
class LayerTime:
    """A layer, by its name: how long it took in the mean of all runs, by the board's clock, in `time_us` microseconds.

    share: of the whole run, 0 to 1. output: the type and shape of what it gives; "" where the board does not tell.
    """

    name: str
    time_us: float
    share: float
    output: str


@dataclass(frozen=True, slots=True)
class ModelReport:
    """How long a model takes on its board; printed, it is a table. Times are in microseconds, means of `runs`.

    name: the model's. layers: in their order. total_us: a run, by the board's clock; runtime_us: what of that is no
    layer's. input_us, call_us, output_us: by this computer's clock, the copy of the inputs, a run with its request, and
    the copy of the outputs. weights_bytes, arena_bytes, workspace_bytes: as the board tells of the model. memory: of
    the board after it; None where its firmware does not tell.
    """

    name: str
    runs: int
    layers: tuple[LayerTime, ...]
    total_us: float
    runtime_us: float
    input_us: float
    call_us: float
    output_us: float
    weights_bytes: int
    arena_bytes: int
    workspace_bytes: int
    memory: BoardMemory | None

    @classmethod
    def of(
        cls,
        table: ModelTable,
        profiles: Sequence[ModelProfile],
        *,
        input_s: float,
        call_s: float,
        output_s: float,
        memory: BoardMemory | None,
        runs: int = 0,
    ) -> Self:
        """Make it of what the board told of each run, or of several together, then of `runs` in all.

        input_s, call_s, output_s: what this computer saw, in seconds.
        """
        runs = runs or len(profiles)
        total_us = sum(profile.total_us for profile in profiles) / runs
        times_us = [sum(layer) / runs for layer in zip(*(profile.layers_us for profile in profiles), strict=True)]
        layers = tuple(
            LayerTime(
                layer.name or f"#{index}",
                time_us,
                time_us / total_us if total_us else 0.0,
                f"{layer.output.dtype}{list(layer.output.shape)}" if layer.output is not None else "",
            )
            for index, (layer, time_us) in enumerate(zip(table.layers, times_us, strict=True))
        )
        return cls(
            table.name,
            runs,
            layers,
            total_us,
            max(total_us - sum(times_us), 0.0),
            input_s * 1e6,
            call_s * 1e6,
            output_s * 1e6,
            table.weights_bytes,
            table.arena_bytes,
            table.workspace_bytes,
            memory,
        )

    @property
    def host_us(self) -> float:
        """How long a run takes here, with the copies, in microseconds."""
        return self.input_us + self.call_us + self.output_us

    @property
    def transport_share(self) -> float:
        """What share of `host_us` the board does not compute in, 0 to 1."""
        return max(1.0 - self.total_us / self.host_us, 0.0) if self.host_us > 0 else 0.0

    def __str__(self) -> str:
        heads = ("LAYER", "TIME", "SHARE", "OUTPUT")
        shown = _ms if self.total_us >= _MANY_US else _us
        rows = [(layer.name, shown(layer.time_us), f"{layer.share:.1%}", layer.output) for layer in self.layers]
        share = self.runtime_us / self.total_us if self.total_us else 0.0
        rows += [("(runtime)", shown(self.runtime_us), f"{share:.1%}", "")] if self.layers else []
        rows.append(("all", shown(self.total_us), "100.0%", ""))
        widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(3)]
        lines = [f"{self.name}: mean of {counted(self.runs, 'run')}, by the board's clock"]
        for name, time, part, output in (heads, *rows):
            lines.append(f"{name:{widths[0]}}  {time:>{widths[1]}}  {part:>{widths[2]}}  {output}".rstrip())
        lines.append(
            f"transport: {self.transport_share:.0%} of {_ms(self.host_us)} on this computer: inputs "
            f"{_ms(self.input_us)}, run {_ms(self.call_us)}, outputs {_ms(self.output_us)}"
        )
        lines.append(
            f"memory: weights {self.weights_bytes} bytes, arena {self.arena_bytes}, workspace {self.workspace_bytes}"
        )
        if self.memory is not None:
            heap = f"heap: {self.memory.most_used_bytes} of {self.memory.heap_bytes} bytes used at most"
            stack = f"; stack: {self.memory.most_stack_bytes} of {self.memory.stack_bytes}"
            lines.append(heap + (stack if self.memory.stack_bytes is not None else ""))
        return printable("\n".join(lines), keep="\n")


def _us(time_us: float) -> str:
    return f"{time_us:.1f} us"


def _ms(time_us: float) -> str:
    return f"{time_us / 1000:.3f} ms"
