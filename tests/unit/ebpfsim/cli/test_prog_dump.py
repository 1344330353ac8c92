"""``ebpfsim prog dump``: slots as handed to the kernel, as rewritten, and as machine code."""

import json
import re
from pathlib import Path

import pytest

from ebpfsim.cli.main import run

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"
FIREWALL = str(BPF / "firewall.bpf.o")


def test_dump_is_what_the_kernel_gets(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prog", "dump", FIREWALL, "firewall"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("firewall: xdp, ")
    assert sum(line.endswith("(95) exit") for line in lines) == 1
    assert any("call bpf_map_lookup_elem#1" in line for line in lines)


# the shape of bpftool 7.7: text and JSON of ``bpftool prog dump xlated``
def test_dump_of_what_the_verifier_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prog", "dump", FIREWALL, "--xlated", "--linum"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "int firewall(struct xdp_md * ctx):"
    assert lines[1] == ("; void *data = (void *)(long)ctx->data; [file:./firewall.bpf.c line_num:44 line_col:34]")
    assert lines[2] == "   0: (79) r2 = *(u64 *)(r1 +0)"
    assert any(line.endswith("(18) r1 = map[id:1]") for line in lines)
    assert run(["prog", "dump", FIREWALL, "--xlated", "--opcodes", "--json"]) == 0
    first, *rest = json.loads(capsys.readouterr().out)
    assert first == {
        "proto": "int firewall(struct xdp_md * ctx)",
        "src": "void *data = (void *)(long)ctx->data;",
        "disasm": "(79) r2 = *(u64 *)(r1 +0)",
        "opcodes": {
            "code": "0x79", "src_reg": "0x1", "dst_reg": "0x2", "off": ["0x00", "0x00"], "imm": ["0x00"] * 4,
        },
    }  # fmt: skip
    wide = next(row for row in rest if row["disasm"].startswith("(18)"))
    assert len(wide["opcodes"]["imm"]) == 8


# the shape of bpftool 7.7: text and JSON of ``bpftool prog dump jited``
def test_dump_of_machine_code(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("capstone")
    assert run(["prog", "dump", FIREWALL, "--jited", "--linum", "--opcodes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch("bpf_prog_[0-9a-f]{16}_firewall:", lines[0])
    assert re.fullmatch(r"   0:\t\S+ .*", lines[1])
    assert re.fullmatch(r"\t([0-9a-f]{2} ?)+", lines[2])
    assert any(line.endswith("return verdict; [file:./firewall.bpf.c line_num:38 line_col:9]") for line in lines)
    assert any(line.endswith("# values of map 'stats'") for line in lines)
    assert any(line.endswith("# map 'blocked'") for line in lines)
    assert run(["prog", "dump", FIREWALL, "--jited", "--json"]) == 0
    main, rare = json.loads(capsys.readouterr().out)
    assert main["name"] == lines[0].removesuffix(":")
    assert rare["name"] == f"{main['name']}.rare"
    assert main["insns"][0]["pc"] == "0x0"
    (leave,) = [row for row in main["insns"] if row["operation"] == "retq"]
    assert leave == {"pc": leave["pc"], "operation": "retq", "operands": []}


def test_dump_shows_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prog", "dump", FIREWALL, "--xlated", "--jited"]) == 2
    assert "--xlated and --jited exclude each other" in capsys.readouterr().err


# bpftool on Linux 6.18: calls of helpers and functions by the names in /proc/kallsyms
def test_calls_have_the_names_of_the_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    built = Path(__file__).resolve().parents[3] / "objects" / "built"
    assert run(["prog", "dump", str(built / "nested_calls.v3.o"), "--xlated"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\(85\) call pc[+-]\d+#bpf_prog_[0-9a-f]{16}_\w+$", out, re.M)
    # a loop of no turns whose callback is gone
    assert run(["prog", "dump", str(built / "loop_never.v3.o"), "--xlated"]) == 0
    assert re.search(r"\(85\) call pc\+0#0xffffffff[0-9a-f]{8}$", capsys.readouterr().out, re.M)
    assert run(["prog", "dump", FIREWALL, "--xlated"]) == 0
    assert re.search(r"\(85\) call __htab_map_lookup_elem#\d+$", capsys.readouterr().out, re.M)
