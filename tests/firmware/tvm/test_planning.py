"""The arena of a model: what is alive together lies apart, and little is wasted."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.firmware.tvm.planning import ALIGNMENT_BYTES, Arena, Lifetime, _smallest_gap, plan_arena

steps = st.integers(0, 30)
lifetimes = st.builds(
    lambda size, first, length: Lifetime(size, first, first + length), st.integers(0, 5000), steps, st.integers(0, 12)
)
# As a chain of layers has it: each step writes a buffer, which the next ones read.
chains = st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 4)), min_size=1, max_size=30).map(
    lambda layers: [Lifetime(size, step, step + length) for step, (size, length) in enumerate(layers)]
)


def least_arena_bytes(buffers: list[Lifetime]) -> int:
    """What no arena can do without: the most that is alive in one step."""
    rounded_up = {buffer: -(-buffer.size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for buffer in buffers}
    alive = [
        sum(rounded_up[buffer] for buffer in buffers if buffer.first_step <= begun.first_step <= buffer.last_step)
        for begun in buffers
    ]
    return max(alive)


def check_apart(buffers: list[Lifetime], arena: Arena) -> None:
    assert len(arena.offsets) == len(buffers)
    for a, b in combinations(range(len(buffers)), 2):
        if max(buffers[a].first_step, buffers[b].first_step) <= min(buffers[a].last_step, buffers[b].last_step):
            first, second = sorted((a, b), key=lambda i: arena.offsets[i])
            assert arena.offsets[first] + max(buffers[first].size_bytes, 1) <= arena.offsets[second]
    for buffer, offset in zip(buffers, arena.offsets, strict=True):
        assert offset >= 0
        assert offset % ALIGNMENT_BYTES == 0
        assert offset + buffer.size_bytes <= arena.size_bytes


@given(st.lists(lifetimes, max_size=24))
def test_buffers_that_are_alive_together_share_no_byte_and_all_lie_in_the_arena(buffers: list[Lifetime]) -> None:
    check_apart(buffers, plan_arena(buffers))


@given(chains)
def test_the_arena_of_a_chain_of_layers_is_at_most_half_as_large_again_as_what_is_alive_at_once(
    buffers: list[Lifetime],
) -> None:
    arena = plan_arena(buffers)
    check_apart(buffers, arena)
    assert least_arena_bytes(buffers) <= arena.size_bytes <= 1.5 * least_arena_bytes(buffers)


def test_a_chain_in_which_each_layer_reads_the_one_before_needs_the_two_largest_neighbours_and_no_more() -> None:
    buffers = [Lifetime(size, step, step + 1) for step, size in enumerate((64, 1024, 512, 2048, 16, 640))]
    assert plan_arena(buffers).size_bytes == 512 + 2048


def test_a_gap_between_two_buffers_is_used_where_it_fits() -> None:
    buffers = [Lifetime(64, 0, 9), Lifetime(32, 0, 3), Lifetime(64, 2, 9), Lifetime(32, 4, 9)]
    arena = plan_arena(buffers)
    assert arena.size_bytes == 160
    assert arena.offsets[1] == arena.offsets[3]


def test_of_several_gaps_the_tightest_that_is_large_enough_is_taken() -> None:
    neighbours = [(offset, Lifetime(16, 0, 9)) for offset in (64, 96, 112, 176)]  # gaps: 64, 16, 0, 48, and the end
    assert [_smallest_gap(size, neighbours) for size in (16, 32, 48, 64, 80)] == [80, 128, 128, 0, 192]


def test_no_buffers_need_no_arena() -> None:
    assert plan_arena([]) == Arena((), 0)


@pytest.mark.parametrize(("size_bytes", "arena_bytes"), [(0, 16), (1, 16), (16, 16), (17, 32)])
def test_sizes_are_rounded_up_to_the_alignment(size_bytes: int, arena_bytes: int) -> None:
    assert plan_arena([Lifetime(size_bytes, 0, 0)]).size_bytes == arena_bytes
