"""Values of R1 to R5 that nobody reads: not in the code, and everything else as in the interpreter."""

from functools import partial
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.cpu import Cpu
from ebpfsim.errors import KernelOops
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.isa.table import TABLE, Form, find
from ebpfsim.jit.engine import compile_prog, execute
from ebpfsim.jit.outline import Op
from ebpfsim.jit.unread import fold
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.vm import interp

STORES = [row for row in TABLE if row.form in (Form.STX, Form.ATOMIC)]
IMMS = (0, 1, -1, 127, -128, 255, 0x1234, 0x7FFF_FFFF, -(1 << 31), -2)


@pytest.fixture
def machine(machine: Any) -> Any:
    """Return one with all of the RAM: with less of it, all code is checked."""
    machine.mem = Memory()
    machine.cpus = [Cpu(0, machine.clock, machine.mem)]
    return machine


def verified(machine: Any, text: str) -> Any:
    prog = machine.prog(text)
    prog.verified_insns = 1
    return prog


@pytest.mark.parametrize("row", STORES, ids=lambda row: row.name)
@pytest.mark.parametrize("move", ["r", "w"])
def test_a_constant_in_memory_is_that_of_a_register(machine: Any, row: Any, move: str) -> None:
    out = machine.mem.alloc(16 * len(IMMS))
    slots, expected = assemble(""), []
    for number, imm in enumerate(IMMS):
        slots += assemble(f"r2 = {out + 16 * number:#x} ll; r3 = 0x1122334455667788 ll; *(u64 *)(r2 + 4) = r3;")
        slots += (*assemble(f"{move}1 = {imm}"), row.insn(dst=2, src=1, off=4))
    slots += assemble("r0 = 0; exit")
    machine.run(slots)
    expected = machine.mem.read(out, 16 * len(IMMS))
    machine.mem.write(out, bytes(16 * len(IMMS)))
    prog = machine.prog(slots)
    prog.verified_insns = 1
    compile_prog(prog, machine, checked=False)
    execute(prog, 0, machine.cpus[0])
    assert machine.mem.read(out, 16 * len(IMMS)) == expected


@pytest.mark.parametrize("row", STORES, ids=lambda row: row.name)
def test_whose_constants_fold(row: Any) -> None:
    (constant,), (wide, *_) = assemble("w1 = -1"), assemble("r1 = -1")
    use = Op(row, row.insn(dst=2, src=1, off=4))
    # 64 bits of ones are not what w1 = -1 gives
    assert bool(fold(Op(find(constant), constant), use)) == (max(row.size, row.bits // 8) != 8)  # type: ignore[arg-type]
    assert fold(Op(find(wide), wide), use)  # type: ignore[arg-type]


# each program, and how many bytes shorter its code is for a program that the verifier has accepted
COUNT = "r1 = 1; lock *(u64 *)(r0 + 0) += r1;"


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        (COUNT + "r0 = 2; exit", True),
        (COUNT + "r1 = 3; r0 = r1; exit", True),
        (COUNT + "r0 = r1; exit", False),
        (COUNT + "call 8; r0 = 0; exit", False),
        ("r1 = 1; r2 = r1; lock *(u64 *)(r0 + 0) += r1; r0 = 2; exit", False),
        (COUNT + "if r0 == 0 goto l; r0 = r1; exit; l: r0 = 1; exit", False),
        (COUNT + "if r0 == 0 goto l; r1 = 4; r0 = r1; exit; l: r0 = 1; exit", True),
        ("r7 = 3; l: " + COUNT + "r7 += -1; if r7 != 0 goto l; r0 = 2; exit", True),
        ("r7 = 3; r1 = 9; l: r6 = r1;" + COUNT + "r7 += -1; if r7 != 0 goto l; r0 = r6; exit", False),
        (COUNT + "call f; r0 = 2; exit; f: exit", False),
    ],
)
def test_who_still_reads(machine: Any, text: str, shorter: bool) -> None:
    value = machine.mem.alloc(8)
    text = f"r0 = {value:#x} ll;" + text
    outcomes, sizes = [], []
    for prove in (False, True):
        machine.mem.store(value, 8, 5)
        prog = machine.prog(text)
        prog.verified_insns = int(prove)
        compile_prog(prog, machine, checked=False)
        run = execute(prog, 0, machine.cpus[0])
        outcomes.append((run.r0, run.insns, run.cost_ps, machine.mem.load(value, 8)))
        sizes.append(prog.compiled.size)
    assert outcomes[0] == outcomes[1]
    assert (sizes[0] > sizes[1]) is shorter


LOOK_UP = """
    r6 = 7
    again: *(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = map_fd[{fd}] ll; call bpf_map_lookup_elem
    if r0 == 0 goto out; r1 = 3; lock *(u64 *)(r0 + 8) += r1
    r6 += -1; if r6 != 0 goto again
    out: r0 = 2; exit
"""


@pytest.mark.parametrize("kind", [MapType.ARRAY, MapType.PERCPU_ARRAY])
def test_a_look_up_knows_where_its_key_is(kind: MapType) -> None:
    values = []
    for engine in ("interp", "jit"):
        bpf = Simulation(seed=1).host("h", engine=engine).bpf
        fd = bpf.map_create(kind, 4, 24, 3)
        prog = bpf.prog_load(ProgType.XDP, encode(assemble(LOOK_UP.format(fd=fd))))
        assert bpf.prog_test_run(prog.fd, bytes(64), repeat=2).retval == 2
        values.append(bpf.map_lookup_elem(fd, (1).to_bytes(4, "little"))[8:16])
    assert values == [(42).to_bytes(8, "little")] * 2


# a budget that ends in the loop: R1 and R2 were not read any more, R3 was
@pytest.mark.parametrize("budget", range(8, 40))
def test_reports_leave_out_what_nobody_reads(machine: Any, budget: int) -> None:
    machine.config = type(machine.config)(insn_budget=budget)
    value = machine.mem.alloc(8)
    text = f"""r3 = 77; r7 = 9; l: r2 = r7; r0 = {value:#x} ll; *(u64 *)(r0 + 0) = r3;
        r1 = 5; *(u64 *)(r0 + 0) = r1; r2 += 1; r4 = r2; r7 += -1; if r7 != 0 goto l; r0 = 2; exit"""
    found = []
    for compile_ in (interp.compile_prog, partial(compile_prog, checked=False)):
        run = compile_(verified(machine, text), machine)
        with pytest.raises(KernelOops) as caught:
            run(0, machine.cpus[0])
        found.append((str(caught.value), caught.value.registers))
    assert found[0] == found[1]
    assert found[0][1][1] in (0, 5)
    assert found[0][1][3] == 77
