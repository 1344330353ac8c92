"""Debug mode in the interpreter: accesses stay in live objects, and the oops says what was missed."""

from typing import Any

import pytest

from ebpfsim.errors import KernelOops


@pytest.fixture
def debugged(make_machine: Any) -> Any:
    return make_machine(debug=True)


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("r0 = *(u64 *)(r1 + 12)", True),
        ("r0 = *(u64 *)(r1 + 13)", False),
        ("*(u8 *)(r1 - 1) = 1", False),
        ("*(u32 *)(r1 + 16) = 1", True),
        ("r2 = 1; lock *(u32 *)(r1 + 16) += r2", True),
        ("r2 = 1; lock *(u64 *)(r1 + 16) += r2", False),
        ("r1 += 20; *(u32 *)(r1 - 4) = 1", True),
        ("r1 += 20; *(u32 *)(r1 + 0) = 1", False),
        ("r1 += 64; *(u64 *)(r1 + 0) = 1", True),  # another allocation, and not by way of the first
        ("*(u64 *)(r1 + 64) = 1", False),
        ("*(u64 *)(r10 - 512) = 1", True),
        ("*(u64 *)(r10 - 516) = 1", False),
        ("*(u64 *)(r10 - 4) = 1", False),
    ],
)
def test_bounds(debugged: Any, code: str, allowed: bool) -> None:
    thing, other = debugged.mem.alloc(20), debugged.mem.alloc(20)
    assert other == thing + 64
    code = f"r1 = {thing:#x} ll; {code}; r0 = 7; exit"
    if allowed:
        assert debugged.run(code).retval == 7
    else:
        with pytest.raises(KernelOops, match="out-of-bounds"):
            debugged.run(code)


def test_the_report(debugged: Any) -> None:
    thing = debugged.mem.alloc(20, what="struct thing")
    with pytest.raises(KernelOops) as caught:
        debugged.run(f"r1 = {thing:#x} ll; r2 = r1; *(u64 *)(r2 + 24) = 1; r0 = 0; exit")
    oops = caught.value
    assert str(oops) == (
        f"kernel oops: slab-out-of-bounds: write of 8 bytes in program 'test' at insn 3, address {thing + 24:#x}\n"
        f"  4 bytes past the end of struct thing (20 bytes at {thing:#x})"
    )
    assert oops.registers[2] == thing
    debugged.mem.free(thing)
    with pytest.raises(KernelOops, match=r"slab-use-after-free: read of 1 bytes[^$]*3 bytes into struct thing, freed"):
        debugged.run(f"r1 = {thing:#x} ll; r0 = *(u8 *)(r1 + 3); exit")


def test_every_function_has_its_own_frame(debugged: Any) -> None:
    # a caller's frame is alive, a frame that was left is not, and none begins where another one ends
    assert (
        debugged.run("r1 = r10; r1 += -8; call f; r0 = *(u64 *)(r10 - 8); exit; f: *(u64 *)(r1 + 0) = 3; exit").r0 == 3
    )
    for code in (
        "call f; r0 = *(u64 *)(r0 + 0); exit; f: r0 = r10; r0 += -8; *(u64 *)(r0 + 0) = 1; exit",
        "call f; r0 = 0; exit; f: r0 = *(u64 *)(r10 + 0); exit",
    ):
        with pytest.raises(KernelOops, match="stack-out-of-bounds"):
            debugged.run(code)
    # nothing is left of the frames of a run that ended early
    top = debugged.cpus[0].stack_top
    assert not debugged.mem.track().holds(top - 8, 8)


def test_without_debug_mode_any_mapped_memory_will_do(make_machine: Any) -> None:
    machine = make_machine()
    thing = machine.mem.alloc(20)
    assert machine.run(f"r1 = {thing:#x} ll; r0 = *(u64 *)(r1 + 64); exit").r0 == 0
    assert machine.mem.objects is None
