"""``ebpfsim prog dump --jited`` of what the kernel generates: the dispatcher and trampolines.

What is called in which order is that of arch/x86/net/bpf_jit_comp.c, v6.18; names are those of kallsyms.
"""

import json
import re
from pathlib import Path

import pytest

from ebpfsim.cli.main import run
from ebpfsim.cli.text_dump import is_text_name, traced_function

pytest.importorskip("capstone")

ROOT = Path(__file__).resolve().parents[4]
SCENARIO = str(ROOT / "scenarios" / "first-steps" / "xdp-firewall.yaml")
FIREWALL = str(ROOT / "scenarios" / "bpf" / "firewall.bpf.o")
TRACED = str(ROOT / "tests" / "data" / "trampolines" / "kernel.bpf.o")


def lines_of(capsys: pytest.CaptureFixture[str], *args: str) -> list[str]:
    assert run(["prog", "dump", *args]) == 0
    return capsys.readouterr().out.splitlines()


def calls(lines: list[str]) -> list[str]:
    return [found[1] for line in lines if (found := re.search(r"\tcallq (\S+)", line))]


@pytest.mark.parametrize("name", ["dispatcher", "bpf_dispatcher_xdp", "bpf_dispatcher_xdp_func"])
@pytest.mark.parametrize("path", [SCENARIO, FIREWALL])
def test_a_dispatcher_compares_and_jumps(capsys: pytest.CaptureFixture[str], path: str, name: str) -> None:
    lines = lines_of(capsys, path, name, "--jited")
    assert lines[0] == "bpf_dispatcher_xdp:"
    assert re.fullmatch(r"; generation \d+, 1 of 48 programs, 18 bytes at 0xffffffffc[0-9a-f]+", lines[1])
    assert re.fullmatch(r"   0:\tcmpq \$-0x[0-9a-f]+, %rdx", lines[2])
    assert re.fullmatch(r"   7:\tje bpf_prog_[0-9a-f]{16}_firewall", lines[3])
    assert lines[4] == "   d:\tjmp __x86_indirect_thunk_rdx"


def test_a_trampoline_calls_programs_around_the_function(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys, TRACED, "bpf_fentry_test1", "--jited", "--opcodes")
    assert re.fullmatch(r"bpf_trampoline_\d+:", lines[0])
    assert lines[1].startswith("; trampoline of bpf_fentry_test1, generation ")
    assert lines[2:4] == ["   0:\tpushq %rbp", "\t55"]
    names = calls(lines)
    body = names.index("bpf_fentry_test1+0x5")
    assert names[0] == "__bpf_tramp_enter"
    assert names[-1] == "__bpf_tramp_exit"
    for at in range(1, len(names) - 1):
        if names[at].startswith("bpf_prog_"):
            assert (names[at - 1], names[at + 1]) == ("__bpf_prog_enter_recur", "__bpf_prog_exit_recur")
    assert 0 < body < len(names) - 1
    assert re.search(r"\tmovabsq \$0xffff[0-9a-f]{12}, %rdi", "\n".join(lines))


def test_rows_have_the_shape_of_those_of_programs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys, FIREWALL, "dispatcher", "--jited", "--json", "--opcodes")
    (row,) = json.loads("\n".join(lines))
    assert row["name"] == "bpf_dispatcher_xdp"
    first = row["insns"][0]
    assert list(first) == ["pc", "operation", "operands", "opcodes"]
    assert (first["pc"], first["operation"], len(first["opcodes"])) == ("0x0", "cmpq", 7)


def test_a_scenario_shows_programs_and_generated_code_at_an_instant(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys, SCENARIO, "--jited", "--at", "1us")
    assert [line for line in lines if line.endswith(":") and "\t" not in line][-1] == "bpf_dispatcher_xdp:"
    assert any(re.fullmatch("bpf_prog_[0-9a-f]{16}_firewall:", line) for line in lines)


@pytest.mark.parametrize(("path", "name"), [(SCENARIO, "trampolin"), (TRACED, "bpf_trampoline_77")])
def test_names_that_mean_nothing(capsys: pytest.CaptureFixture[str], path: str, name: str) -> None:
    assert run(["prog", "dump", path, name, "--jited"]) == 2
    assert f"generated text '{name}'" in capsys.readouterr().err


def test_a_scenario_wants_a_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prog", "dump", SCENARIO]) == 2
    assert "--xlated or --jited" in capsys.readouterr().err


def test_names() -> None:
    assert is_text_name("trampoline")
    assert is_text_name("vfs_read", {"vfs_read"})
    assert not is_text_name("vfs_read")
    assert traced_function("fentry.s/vfs_read") == "vfs_read"
    assert traced_function("lsm/file_open") == "bpf_lsm_file_open"
    assert traced_function("fentry/no_such_function") == traced_function("xdp") == traced_function("fentry") == ""
