"""Debug mode in machine code: what may be accessed, what is reported, and the registers are the interpreter's."""

import random
from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.jit import engine
from ebpfsim.vm import interp

MACHINE_BYTES = 4096


@pytest.fixture
def debugged(make_machine: Any) -> Any:
    return make_machine(debug=True)


def ends(machine: Any, code: str) -> list[Any]:
    """Run a program in the interpreter and as machine code; return what came of both."""
    found: list[Any] = []
    for compiler in (None, engine.compile_prog):
        prog = machine.prog(code)
        if compiler is not None:
            prog.run = compiler(prog, machine)
        try:
            run = engine.execute(prog, 0, machine.cpus[0])
            found.append((run.r0, run.insns, run.cost_ps))
        except KernelOops as oops:
            found.append((str(oops), oops.registers, oops.address))
    return found


ACCESSES = ("r0 = *(u{0} *)(r1 {1:+d})", "*(u{0} *)(r1 {1:+d}) = r2", "*(u{0} *)(r1 {1:+d}) = 5")


def test_random_accesses_around_objects_of_all_kinds(debugged: Any) -> None:
    rng = random.Random(5)
    mem, objects = debugged.mem, debugged.mem.track()
    blocks = [mem.alloc(rng.randrange(1, 70)) for _ in range(6)]
    array = mem.alloc(240)
    objects.part(array, 240, lambda index: f"element {index}", stride=24, length=20)
    gone = mem.alloc(48)
    mem.free(gone)
    packet = mem.alloc(256)
    objects.limit(packet, packet + 33, packet + 101, "a packet")
    starts = [*blocks, array, array + 48, gone, packet + 33, packet, packet + 101]
    faults = 0
    for _ in range(400):
        access = rng.choice(ACCESSES).format(rng.choice((8, 16, 32, 64)), rng.choice((0, rng.randrange(-130, 130))))
        pointer = rng.choice(starts) + rng.choice((0, rng.randrange(-40, 40)))
        interp, jit = ends(debugged, f"r1 = {pointer:#x} ll; r2 = 0x1122334455667788 ll; r0 = 1; {access}; exit")
        assert interp == jit, (access, hex(pointer))
        faults += isinstance(interp[0], str)
    assert 100 < faults < 350


@pytest.mark.parametrize(
    "code",
    [
        "*(u64 *)(r10 - 512) = 1; r0 = 4; exit",
        "*(u64 *)(r10 - 516) = 1; exit",
        "r0 = *(u64 *)(r10 + 0); exit",
        "r1 = r10; r1 += -8; call f; r0 = *(u64 *)(r10 - 8); exit; f: *(u64 *)(r1 + 0) = 3; exit",
        "call f; r0 = *(u64 *)(r0 + 0); exit; f: r0 = r10; r0 += -8; *(u64 *)(r0 + 0) = 1; exit",
        "call f; exit; f: r0 = *(u64 *)(r10 + 0); exit",
        "r11 = 8; r0 = *(u64 *)(r11 + 0); exit",
        "r1 = 3; l: r1 += -1; call f; if r1 != 0 goto l; r0 = 2; exit; f: *(u64 *)(r10 - 8) = r1; exit",
    ],
)
def test_frames(debugged: Any, code: str) -> None:
    interp, jit = ends(debugged, code)
    assert interp == jit
    # all frames are gone, also after a fault
    top = debugged.cpus[0].stack_top
    assert not any(debugged.mem.track().holds(top - at, 8) for at in range(8, 1200, 8))


def test_every_memory_has_its_own_routines(make_machine: Any) -> None:
    machines = [make_machine(debug=True) for _ in range(2)]
    for machine in machines:
        thing = machine.mem.alloc(8)
        interp, jit = ends(machine, f"r1 = {thing:#x} ll; r0 = *(u64 *)(r1 + 8); exit")
        assert interp == jit
        assert "slab-out-of-bounds: read of 8 bytes" in jit[0]


def test_a_fault_behind_a_tail_call_of_a_callback(make_machine: Any) -> None:
    from ebpfsim.maps.map import MapAttr
    from ebpfsim.maps.prog_array import ProgArrayMap
    from ebpfsim.uapi.bpf import MapType

    found = []
    for compiler in (interp.compile_prog, engine.compile_prog):
        machine = make_machine()
        array = ProgArrayMap(MapAttr(MapType.PROG_ARRAY, 4, 4, 1), machine.mem, 1)
        machine.maps[array.address] = array
        target = machine.prog("r0 = 7; r1 = 0; r2 = 0; *(u16 *)(r1 + 64) = r2; exit", "target")
        target.run = compiler(target, machine)
        array._slots[0] = target
        code = f"""
            r1 = 1; r2 = subprog[cb] ll; r3 = 0; r4 = 0; call bpf_loop; r0 = 0; exit
        cb: r2 = {array.address:#x} ll; r3 = 0; call bpf_tail_call; r0 = 0; exit
        """
        prog = machine.prog(code, "caller")
        prog.run = compiler(prog, machine)
        with pytest.raises(KernelOops) as caught:
            engine.execute(prog, 0, machine.cpus[0])
        found.append((str(caught.value), caught.value.registers))
    assert found[0] == found[1]
    assert "write of 2 bytes near NULL in program 'target' at insn 3" in found[0][0]
