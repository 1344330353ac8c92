"""``ebpfsim-conformance`` as the public runner bpf_conformance starts a plugin: see its README, "plugins"."""

import io
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ebpfsim.cli.conformance import main
from ebpfsim.config import KernelConfig
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode


def _hex(data: bytes) -> str:
    # two blanks after each byte, as the runner has it
    return "".join(f"{byte:02x}  " for byte in data)


def _program(text: str) -> str:
    return _hex(encode(assemble(text))) + "\n"


def _run(monkeypatch: pytest.MonkeyPatch, program: str | bytes, *arguments: str) -> int:
    data = program.encode() if isinstance(program, str) else program
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("engine", [(), ("--engine", "interp"), ("--engine interp",), ("", "--engine=interp")])
def test_r0_in_hex(engine: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert _run(monkeypatch, _program("r0 = *(u16 *)(r1 + 1); exit"), _hex(b"\x01\xab\xcd"), *engine) == 0
    assert capsys.readouterr() == ("cdab\n", "")


def test_64_bits(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert _run(monkeypatch, _program("r0 = -1; exit")) == 0
    assert capsys.readouterr().out == "ffffffffffffffff\n"


def test_the_jit(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from ebpfsim.jit.engine import unavailable

    code = _run(monkeypatch, _program("r0 = r2; exit"), "00 " * 12, "--engine", "jit")
    if unavailable():
        assert code == 2
    else:
        assert (code, capsys.readouterr().out) == (0, "c\n")


def test_bytes_in_a_row_and_with_prefixes(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    program = encode(assemble("r0 = *(u8 *)(r1 + 1); exit")).hex()
    assert _run(monkeypatch, program, "0x1, 0xf2") == 0
    assert capsys.readouterr().out == "f2\n"


def test_the_program_as_an_argument(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert _run(monkeypatch, "", "--program", _program("r0 = 3; exit").strip()) == 0
    assert capsys.readouterr().out == "3\n"


@pytest.mark.parametrize(
    ("program", "arguments", "code", "error"),
    [
        ("95 00 01 00 00 00 00 00", (), 2, "program, insn 0: error: 'exit' uses reserved fields: off is 1, expected 0"),
        ("95 00 00", (), 2, "program: error: program of 3 bytes is not a whole number of 8-byte instructions"),
        ("zz", (), 2, "standard input: error: 'zz' is not made of hex bytes"),
        ("", (), 2, "program: error: has no instructions"),
        (_program("exit"), ("xy",), 2, "MEMORY_HEX: error: 'xy' is not made of hex bytes"),
        (_program("r1 = 8; r0 = *(u8 *)(r1 + 0); exit"), (), 3, "error: kernel oops: read of 1 bytes near NULL"),
        (_program("exit"), ("--elf",), 2, "object: error"),
        ("85 00 00 00 0f 27 00 00 95 00 00 00 00 00 00 00", (), 4, "error: not modelled: helper number 9999"),
    ],
)
def test_errors_go_to_standard_error(
    program: str,
    arguments: tuple[str, ...],
    code: int,
    error: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    assert _run(monkeypatch, program, *arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(error)


def test_registers_of_a_fault(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert _run(monkeypatch, _program("r7 = 8; r0 = *(u8 *)(r7 + 0); exit"), "--debug") == 3
    assert " R7 0000000000000008" in capsys.readouterr().err


def test_a_program_without_end(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert _run(monkeypatch, _program("l: goto l")) == 3
    assert f"runaway: more than {KernelConfig().insn_budget} instructions" in capsys.readouterr().err


def test_an_object_as_bytes_or_in_hex(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from pathlib import Path

    built = (Path(__file__).resolve().parents[4] / "scenarios" / "bpf" / "firewall.bpf.o").read_bytes()
    for program in (built, _hex(built)):
        assert _run(monkeypatch, program, "00 " * 64, "--elf", "--xdp") == 0
        assert capsys.readouterr().out == "2\n"  # XDP_PASS: nothing but zeroes is no IPv4


def test_the_installed_command() -> None:
    from pathlib import Path

    command = Path(sys.executable).with_name("ebpfsim-conformance")
    if not command.exists():
        pytest.skip("ebpfsim is not installed here")
    done = subprocess.run(
        [command, "07 08 "], input=_program("r0 = *(u8 *)(r1 + 1); exit"), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")
