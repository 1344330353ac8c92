"""Functions that nobody calls: their arguments, their stack, and what is left when they fail."""

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.progs.prog import Subprog
from ebpfsim.vm.callback import Callbacks

CODE = """
    r0 = 1
    exit
    *(u64 *)(r10 - 8) = r1
    r0 = *(u64 *)(r10 - 8)
    r0 += r2
    r0 += r3
    exit
    r1 = 0
    r0 = *(u64 *)(r1 + 0)
    exit
"""
SUM, FAULT = 2, 7


@pytest.fixture
def prog(machine):
    made = machine.prog(CODE)
    made.subprogs = (Subprog(0, 2, "main", 0), Subprog(2, 7, "sum", 8), Subprog(7, 10, "fault", 0))
    return made


def test_arguments_and_result(machine, prog) -> None:
    callbacks, cpu = Callbacks(machine), machine.cpus[0]
    before = cpu.stack_top, cpu.elapsed_ps
    assert callbacks.run(prog, prog.func_addr(SUM), cpu, (1, 20, 300)) == 321
    assert cpu.stack_top == before[0]
    assert cpu.elapsed_ps > before[1]
    # the program is made ready once
    assert callbacks.run(prog, prog.func_addr(SUM), cpu, (1, 2, 3)) == 6


def test_faults_leave_the_stack_as_it_was(machine, prog) -> None:
    callbacks, cpu = Callbacks(machine), machine.cpus[0]
    top = cpu.stack_top
    with pytest.raises(KernelOops):
        callbacks.run(prog, prog.func_addr(FAULT), cpu, ())
    assert cpu.stack_top == top
    with pytest.raises(KernelOops, match="no function"):
        callbacks.run(prog, prog.func_addr(1), cpu, ())


def test_a_tail_call_leads_to_programs_of_any_engine(machine) -> None:
    from ebpfsim.jit import engine
    from ebpfsim.maps.map import MapAttr
    from ebpfsim.maps.prog_array import ProgArrayMap
    from ebpfsim.uapi.bpf import MapType

    attr = MapAttr(MapType.PROG_ARRAY, 4, 4, 1, map_name="progs")
    array = ProgArrayMap(attr, machine.mem, 1)
    machine.maps[array.address] = array
    other = machine.prog("r0 = 7; exit")
    if not engine.unavailable():
        other.run = engine.compile_prog(other, machine)
    array.put_slot(0, other)
    prog = machine.prog(f"r2 = {array.address:#x} ll; r3 = 0; call bpf_tail_call; r0 = 1; exit")
    assert Callbacks(machine).run(prog, prog.func_addr(0), machine.cpus[0], (0,)) == 7
