"""``ebpfsim asm``."""

from pathlib import Path

import pytest

from ebpfsim.cli.main import run


def test_listing_and_slots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.s").write_text("r0 = 2\nexit\n")
    assert run(["asm", str(tmp_path / "p.s"), "-o", str(tmp_path / "p.bin")]) == 0
    assert capsys.readouterr().out == "   0: (b7) r0 = 2\n   1: (95) exit\n"
    # RFC 9669: MOV of 64 bits with an immediate is 0xb7, EXIT is 0x95
    assert (tmp_path / "p.bin").read_bytes() == bytes.fromhex("b700000002000000 9500000000000000")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"r0 = 2\nexot\n", "p.s:2:1: error: unknown word 'exot'; did you mean 'exit'?"),
        (b"", "p.s: error: no instructions"),
        (b"\xff\xfe", "p.s: error: not UTF-8 text, expected assembly"),
    ],
)
def test_wrong_text(
    data: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.s").write_bytes(data)
    assert run(["asm", "p.s"]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_file_that_cannot_be_read_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["asm", "no.s"]) == 2
    assert capsys.readouterr().err == "no.s: error: cannot be read: no such file or directory\n"
    (tmp_path / "p.s").write_text("exit")
    assert run(["asm", "p.s", "-o", "no/p.bin"]) == 2
    assert capsys.readouterr().err == "no/p.bin: error: cannot be written: no such file or directory\n"
