"""Conformance to RFC 9669: one small program a line, run by both engines and, where bpf(2) is allowed, by Linux."""

from pathlib import Path
from typing import Any

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.isa.table import TABLE, Form, find, insn_len
from ebpfsim.uapi.bpf import ProgType

DATA = sorted(Path(__file__).parent.glob("*.data"))


def _cases() -> list[Any]:
    found = []
    for path in DATA:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                name, code, expected = (part.strip() for part in line.split(" | "))
                where = f"{path.name}:{number}"
                found.append(pytest.param(code, int(expected, 0), where, id=f"{path.stem}: {name}"))
    return found


CASES = _cases()


@pytest.mark.parametrize(("code", "expected", "where"), CASES)
def test_interpreter_conforms(machine: Any, code: str, expected: int, where: str) -> None:
    prog = machine.prog(assemble(code, where=where), where)
    run = machine.run(prog)
    assert run.retval == expected & 0xFFFF_FFFF
    assert run.state[0] == expected


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "plain"])
@pytest.mark.parametrize(("code", "expected", "where"), CASES)
def test_jit_conforms(machine: Any, code: str, expected: int, where: str, checked: bool) -> None:
    from ebpfsim.cpu import Cpu
    from ebpfsim.jit.compile import Image
    from ebpfsim.jit.engine import compile_prog, execute
    from ebpfsim.memory import Memory

    machine.mem = Memory()
    machine.cpus = [Cpu(0, machine.clock, machine.mem)]
    prog = machine.prog(assemble(code, where=where), where)
    interpreted = execute(prog, 0, machine.cpus[0])
    compile_prog(prog, machine, checked=checked)
    run = execute(prog, 0, machine.cpus[0])
    assert isinstance(prog.image, Image)
    assert run.r0 == expected
    assert (run.retval, run.insns, run.tail_calls) == (interpreted.retval, interpreted.insns, interpreted.tail_calls)


# the kernel returns 32 bits: a main program calls the case and returns one half
HALVES = ("call body; exit; body: {}", "call body; r0 >>= 32; exit; body: {}")


@pytest.mark.live
@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_linux_says_the_same(path: Path) -> None:
    from ebpfsim.live import Bpf

    live_bpf = Bpf()
    wrong = []
    for case in CASES:
        code, expected, where = case.values
        if not where.startswith(path.name):
            continue
        halves = []
        for half in HALVES if "eight frames" not in str(case.id) else ():
            fd = live_bpf.prog_load(ProgType.SOCKET_FILTER, encode(assemble(half.format(code)))).fd
            halves.append(live_bpf.prog_test_run(fd, bytes(64)).retval)
            live_bpf.close(fd)
        if halves and halves[0] | halves[1] << 32 != expected:
            wrong.append((case.id, halves, expected))
    assert wrong == []


def test_every_row_has_a_case() -> None:
    used = set()
    for case in CASES:
        slots = assemble(case.values[0])
        idx = 0
        while idx < len(slots):
            row = find(slots[idx])
            assert row is not None
            used.add(row.name)
            idx += insn_len(slots[idx])
    # what needs a map, BTF, an skb or an arena
    elsewhere = {Form.LD_ABS, Form.LD_IND, Form.CALL_KFUNC, Form.ADDR_SPACE_CAST}
    expected = {
        row.name for row in TABLE if row.loadable and row.form not in elsewhere and not row.name.startswith("ld_imm64.")
    }
    assert used == expected
