"""What kernels take of the workspace, by their C source."""

from microrpc.firmware.tvm.workspace import workspace_bytes_of


def alloc(name: str, size: int, spelt: str = "") -> str:
    return (
        f"  float* {name} = ((float*)((float*)TVMBackendAllocWorkspace(1, dev_id, (uint64_t){size}{spelt}, 2, 32)));\n"
    )


def free(name: str) -> str:
    return f"  if (TVMBackendFreeWorkspace(1, dev_id, {name}) != 0) {{\n    return -1;\n  }}\n"


def test_source_that_allocates_nothing_takes_nothing() -> None:
    assert workspace_bytes_of("int main(void) { return 0; }") == 0


def test_blocks_that_are_there_together_are_added_up() -> None:
    source = alloc("a", 1600, "ULL") + alloc("b", 3200) + free("b") + free("a")
    assert workspace_bytes_of(source) == 4800


def test_blocks_one_after_the_other_share_their_bytes() -> None:
    source = alloc("a", 1600) + free("a") + alloc("b", 3200) + free("b") + alloc("c", 16) + free("c")
    assert workspace_bytes_of(source) == 3200


def test_kernels_have_blocks_of_the_same_name() -> None:
    source = (alloc("pad_temp", 1024) + free("pad_temp")) * 3 + alloc("pad_temp", 2048) + free("pad_temp")
    assert workspace_bytes_of(source) == 2048


def test_each_block_is_rounded_up_as_the_adapter_does() -> None:
    assert workspace_bytes_of(alloc("a", 1025) + alloc("b", 1)) == 1040 + 16
