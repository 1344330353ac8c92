"""``ebpfsim btf dump``; what bpftool prints of the same blob is compared in ``report/test_bpftool.py``."""

import json
from pathlib import Path

import pytest

from ebpfsim.cli.main import run
from ebpfsim.elf.file import ElfFile

OBJECT = Path(__file__).resolve().parents[4] / "scenarios" / "bpf" / "firewall.bpf.o"


def test_types_of_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["btf", "dump", str(OBJECT)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "[2] INT 'int' size=4 bits_offset=0 nr_bits=32 encoding=SIGNED"
    assert run(["btf", "dump", str(OBJECT), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["types"]
    assert rows[1] == {
        "id": 2, "kind": "INT", "name": "int", "size": 4, "bits_offset": 0, "nr_bits": 32, "encoding": "SIGNED",
    }  # fmt: skip


def test_files_of_types_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = ElfFile(OBJECT.read_bytes(), "object").section(".BTF")
    assert section is not None
    (tmp_path / "types.btf").write_bytes(section.data)
    assert run(["btf", "dump", str(OBJECT)]) == 0
    expected = capsys.readouterr().out
    assert run(["btf", "dump", str(tmp_path / "types.btf")]) == 0
    assert capsys.readouterr().out == expected


def test_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["btf", "dump", str(OBJECT), "--format", "c"]) == 0
    assert "struct xdp_md {" in capsys.readouterr().out


def test_files_without_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("int x;\n" * 30)
    for path in (tmp_path, tmp_path / "text", tmp_path / "nothing"):
        assert run(["btf", "dump", str(path)]) == 2
    err = capsys.readouterr().err
    assert "is a folder, expected an object or BTF file" in err
    assert "cannot be read: no such file or directory" in err


def test_what_relocations_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    core = str(OBJECT.parents[2] / "tests" / "data" / "bpf" / "core.bpf.o")
    out = tmp_path / "small.btf"
    assert run(["btf", "prune", core, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 46 types, {len(out.read_bytes())} bytes\n"
    again = tmp_path / "smaller.btf"
    assert run(["btf", "prune", core, "-o", str(again), "--kernel-btf", str(out)]) == 0
    assert again.read_bytes() == out.read_bytes()
    assert run(["btf", "prune", str(out), "-o", str(again)]) == 2
    assert "raw BTF, expected an ELF object" in capsys.readouterr().err
    assert run(["btf", "prune", core, "-o", str(tmp_path)]) == 2
    assert "cannot be written: is a directory" in capsys.readouterr().err
