"""What a fault says: program, instruction, line of the C source, address, registers."""

import re
from pathlib import Path
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelOops
from ebpfsim.vm.interp import compile_prog
from ebpfsim.vm.oops import explain, source_line

SOURCES = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"


def _fault(machine: Any, code: str) -> KernelOops:
    with pytest.raises(KernelOops) as caught:
        machine.run(code)
    return caught.value


def test_registers_are_those_before_the_instruction_that_faults(machine: Any) -> None:
    oops = _fault(machine, "r0 = 7; r3 = -1; r4 = 16; r0 = *(u32 *)(r4 + 4); exit")
    assert oops.registers[:10] == (7, 0, 0, (1 << 64) - 1, 16, 0, 0, 0, 0, 0)
    assert str(oops) == "kernel oops: read of 4 bytes near NULL in program 'test' at insn 3, address 0x14"
    lines = oops.details().splitlines()
    assert lines[0] == "R0 0000000000000007 R1 0000000000000000 R2 0000000000000000 R3 ffffffffffffffff".replace(
        "R", " R"
    )
    assert lines[2].endswith(f"R10 {oops.registers[10]:016x}")


def test_registers_of_the_function_that_faults(machine: Any) -> None:
    oops = _fault(machine, "r6 = 1; call f; exit; f: r6 = 2; *(u8 *)(r6 + 0) = 0; exit")
    assert (oops.insn_idx, oops.registers[6], oops.address) == (4, 2, 2)


def test_the_innermost_run_has_the_say(machine: Any) -> None:
    oops = KernelOops("x", "inner", 3)
    prog = machine.prog("r0 = 1; exit", "inner")
    explain(oops, prog, [1] * 11)
    explain(oops, prog, [2] * 11)
    assert oops.registers == (1,) * 11


def test_without_registers_there_are_no_details() -> None:
    assert KernelOops("x").details() == ""


def test_the_line_of_the_source() -> None:
    host = Simulation().host("a")
    obj = host.load(SOURCES / "firewall.bpf.o")
    (program,) = obj.programs.values()
    run = compile_prog(host.prog(program), host.kernel)
    with pytest.raises(KernelOops) as caught:
        run(0x10, host.kernel.cpus[0])
    found = re.fullmatch(r".*firewall\.bpf\.c:(\d+):\d+: (.*)", caught.value.line)
    assert found is not None
    source = (SOURCES / "firewall.bpf.c").read_text().splitlines()
    assert source[int(found[1]) - 1].strip() == found[2]
    assert "data" in found[2]
    assert str(caught.value).splitlines()[1].strip() == caught.value.line


def test_every_instruction_has_the_line_that_it_was_compiled_from() -> None:
    """Each access of the context in the source is where the line info of the rewritten program says."""
    host = Simulation().host("a")
    obj = host.load(SOURCES / "firewall.bpf.o")
    (program,) = obj.programs.values()
    prog = host.prog(program)
    source = (SOURCES / "firewall.bpf.c").read_text().splitlines()
    lines = [source_line(prog, idx) for idx in range(len(prog.insns))]
    for line in lines:
        found = re.fullmatch(r".*firewall\.bpf\.c:(\d+):\d+: (.*)", line)
        assert found is not None, line
        assert source[int(found[1]) - 1].strip() == found[2]
    calls = [line for insn, line in zip(prog.insns, lines, strict=True) if insn.code == 0x85 and insn.src == 0]
    assert calls
    assert all("bpf_" in line for line in calls), calls


def test_a_program_without_line_info_has_no_line(machine: Any) -> None:
    assert source_line(machine.prog("r0 = 1; exit"), 0) == ""
