"""Programs of an object."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.elf.reader import read_object
from ebpfsim.errors import InputError
from ebpfsim.loader.program import Program

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


@pytest.fixture
def program() -> Program:
    return Program(read_object(DATA / "core.bpf.o").programs["loads"], "core.bpf.o")


def test_what_the_section_says(program: Program) -> None:
    assert (program.name, program.section, program.attach_target) == ("loads", "tp_btf/sched_switch", "sched_switch")
    assert (program.attach_btf, program.autoload, program.flags, program.log_level) == (True, True, 0, 0)
    assert repr(program) == "<Program 'loads' tp_btf/sched_switch>"


@pytest.mark.parametrize("attribute", ["fd", "id", "tag", "log", "verified_insns"])
def test_nothing_is_known_before_load(program: Program, attribute: str) -> None:
    with pytest.raises(InputError, match=r"core\.bpf\.o: error: program 'loads' is not loaded\ntry: call load\(\)"):
        getattr(program, attribute)


def test_what_the_kernel_said_is_kept(program: Program, remembered: Any) -> None:
    loaded = remembered.prog_load(26, b"\x95" + bytes(7), name="loads")
    program.set_loaded(remembered, loaded, b"\x95" + bytes(7))
    assert program.loaded
    assert (program.fd, program.id, program.verified_insns) == (loaded.fd, loaded.fd + 100, 1)
    program.set_loaded(None, None)
    assert not program.loaded
    assert program.insns == b""


def test_any_result_with_the_fields_will_do(program: Program) -> None:
    program.set_loaded(None, SimpleNamespace(fd=7, log="text", verified_insns=3))  # type: ignore[arg-type]
    assert (program.fd, program.log, program.verified_insns) == (7, "text", 3)
