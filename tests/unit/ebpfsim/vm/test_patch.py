"""A handler in the place of a function, in the interpreter's blocks; ``jit/test_patch.py`` has both engines."""

from typing import Any

from ebpfsim.vm.interp import execute
from ebpfsim.vm.patch import patch_blocks

CODE = "r6 = 5; r1 = 3; call f; r0 += r6; exit; f: r0 = r1; r6 = 99; exit"
F = 5


def test_a_handler_gets_arguments_and_gives_the_result(machine: Any) -> None:
    prog = machine.prog(CODE)
    seen = []

    def handler(_run: object, registers: tuple[int, ...], proceed: Any) -> int:
        seen.append(registers[0])
        return 2 * int(proceed())

    assert execute(prog, 0, machine.cpus[0]).r0 == 8
    patch_blocks(prog.image, F, handler)
    run = execute(prog, 0, machine.cpus[0])
    assert (run.r0, seen) == (11, [3])
    patch_blocks(prog.image, F, None)
    assert execute(prog, 0, machine.cpus[0]).r0 == 8


def test_what_a_handler_leaves_out_is_not_counted(machine: Any) -> None:
    prog = machine.prog(CODE)
    whole = execute(prog, 0, machine.cpus[0])
    patch_blocks(prog.image, F, lambda _run, _registers, _proceed: -1)
    run = execute(prog, 0, machine.cpus[0])
    assert run.r0 == 4
    assert whole.insns - run.insns == 3
    assert machine.cpus[0].stack_top == machine.cpus[0].stack_base + 64 * 1024


def test_time_that_a_handler_takes_is_the_programs(machine: Any) -> None:
    prog, cpu = machine.prog(CODE), machine.cpus[0]
    before = execute(prog, 0, cpu).cost_ps

    def handler(_run: object, _registers: tuple[int, ...], proceed: Any) -> int:
        cpu.charge(1000)
        return int(proceed())

    patch_blocks(prog.image, F, handler)
    assert execute(prog, 0, cpu).cost_ps == before + 1000
