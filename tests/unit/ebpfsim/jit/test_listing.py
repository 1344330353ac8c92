"""Machine code as text: functions, places and names; nothing in it depends on where this process has its memory."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.errors import InputError
from ebpfsim.jit.engine import compile_prog
from ebpfsim.jit.listing import listing

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"
CODE = """
    r1 = 7
    call f
    if r0 > 3 goto out
    r0 = 0x123456789abcdef0 ll
out:
    call bpf_get_prandom_u32
    exit
f:
    r0 = r1
    *(u64 *)(r10 - 8) = r0
    exit
"""


def _name(slot: int) -> str:
    return f"function{slot}"


def _shown(machine: Any, code: str) -> dict[str, list[Any]]:
    prog = machine.prog(code)
    prog.run = compile_prog(prog, machine)
    return {function.name: function.lines for function in listing(prog, _name)}


def test_functions_with_their_places(machine: Any) -> None:
    pytest.importorskip("capstone")
    functions = _shown(machine, CODE)
    assert list(functions) == ["function0", "function7", "function0.rare"]
    for lines in functions.values():
        # without gaps, from the beginning of the function on
        ends = [0, *(line.pc + len(line.code) for line in lines)]
        assert [line.pc for line in lines] == ends[:-1]
    main = functions["function0"]
    assert [line.slot for line in main if line.slot >= 0] == [0, 1, 2, 3, 5, 6]
    assert any(line.operation == "callq" and line.operands == ("function7",) for line in main)
    assert any("$0x123456789abcdef0" in line.operands for line in main)
    assert main[-1].operation == "retq"
    assert any("$bpf_get_prandom_u32" in line.operands for line in main)


def test_debug_mode_names_its_routines(make_machine: Any) -> None:
    pytest.importorskip("capstone")
    functions = _shown(make_machine(debug=True), CODE)
    called = {line.operands[0] for line in functions["function7"] if line.operation == "callq"}
    assert {"enter frame", "check strict", "leave frame"} <= called


def test_the_text_is_the_same_in_every_process() -> None:
    pytest.importorskip("capstone")
    command = [sys.executable, "-m", "ebpfsim", "prog", "dump", str(BPF / "parser_chain.bpf.o"), "--jited"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == second
    assert not re.search(r"0x[57][0-9a-f]{11}\b", first)


def test_the_interpreter_has_no_machine_code(machine: Any) -> None:
    with pytest.raises(InputError, match="program 'test' is not machine code"):
        listing(machine.prog("r0 = 0; exit"), _name)


def test_without_a_disassembler(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    with pytest.raises(InputError) as caught:
        _shown(machine, CODE)
    assert str(caught.value) == (
        "error: machine code is shown by capstone, which is not installed\n"
        "try: pip install 'ebpfsim[disasm]', or pip install capstone"
    )


def test_native_routines_have_the_names_of_their_helpers() -> None:
    pytest.importorskip("capstone")
    import ebpfsim
    from ebpfsim.isa.asm import assemble
    from ebpfsim.isa.insn import encode
    from ebpfsim.uapi.bpf import MapType, ProgType

    host = ebpfsim.Simulation(seed=1).host("h", engine="jit")
    fd = host.bpf.map_create(MapType.HASH, 4, 8, 4, name="flows")
    code = f"""
        *(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = map_fd[{fd}] ll; call bpf_map_lookup_elem
        *(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = map_fd[{fd}] ll; call bpf_map_delete_elem
        call bpf_get_prandom_u32; r0 = 2; exit
    """
    prog = host.prog(host.bpf.prog_load(ProgType.XDP, encode(assemble(code)), license="GPL").fd)
    lines = [line for function in listing(prog, _name) for line in function.lines]
    called = {line.operands[0] for line in lines if line.operation == "callq" and "bpf_" in line.operands[0]}
    assert called >= {"bpf_map_lookup_elem", "bpf_map_delete_elem", "bpf_get_prandom_u32"}
    assert not any("outside" in operand for line in lines for operand in line.operands)
