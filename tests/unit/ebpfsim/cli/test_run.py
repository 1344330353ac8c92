"""``ebpfsim run``: words, JSON, captures, options."""

import json
import re
from pathlib import Path

import pytest

from ebpfsim.cli.main import run

TEXT = """\
name: pair
seed: 3
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0], rate: 1Gbit, delay: 50us, loss: 0%}]
objects: {drop: {host: b, type: xdp, asm: "r0 = 1; exit"}}
attach: [{id: guard, program: drop, hook: xdp, device: eth0}]
events: [{at: 1ms, host: a, device: eth0, send: "Ether()/IP(dst='10.0.0.2')/UDP()/('x'*100)", count: 10, every: 5us}]
expect: [{link: guard, runs: 10, verdicts: {XDP_DROP: 10}}]
"""
WORDS = """\
pair: 2 machines, seed 3, ended at 1.096962 ms

What happened
  at   what
────────────────────────────────────────────────────────────────────────────────────────────────
0 ns   b: program 'drop' loaded: 2 instructions, the verifier walked 2
       b: 'drop' attached to xdp of eth0, native mode, as 'guard'
1 ms   a: sends 10 packets from eth0, one every 5 us: Ether()/IP(dst='10.0.0.2')/UDP()/('x'*100)

Programs
link    program   device   runs   verdicts      ns/run   ns/packet
──────────────────────────────────────────────────────────────────
guard   drop      b/eth0     10   XDP_DROP 10      2.8        33.8

Packets
device   sent   bytes sent   received   bytes received
──────────────────────────────────────────────────────
a/eth0     10         1420          0                0
b/eth0      0            0         10             1420

Dropped
where    reason   packets   meaning
─────────────────────────────────────────────────────
b/eth0   XDP           10   an XDP program dropped it

Expectations
     expectation              want   have
─────────────────────────────────────────
ok   link 'guard': runs       10     10
ok   link 'guard': XDP_DROP   10     10

2 of 2 expectations met
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.yaml").write_text(TEXT)
    return tmp_path


def test_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "pair.yaml"]) == 0
    captured = capsys.readouterr()
    head, profile, digest = captured.out.rstrip("\n").rsplit("\n", 2)
    # costs belong to the profile and are tested there
    lines = [line for line in f"{head}\n".splitlines() if not line.startswith(("guard", "pair:"))]
    assert lines == [line for line in WORDS.splitlines() if not line.startswith(("guard", "pair:"))]
    assert head.startswith("pair: 2 machines, seed 3, ended at 1.0")
    assert "XDP_DROP 10" in head
    assert profile.startswith("nanoseconds by cost profile 'skx3' (")
    assert digest.startswith("digest sha256:")
    assert captured.err == ""
    assert not any(line != line.rstrip() for line in captured.out.splitlines())


def test_words_do_not_depend_on_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["run", "pair.yaml"])
    want = capsys.readouterr().out
    for name, value in (("COLUMNS", "40"), ("TERM", "dumb"), ("FORCE_COLOR", "1"), ("LANG", "C")):
        monkeypatch.setenv(name, value)
    run(["run", "pair.yaml"])
    assert capsys.readouterr().out == want


def test_expectation_that_is_not_met_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "pair.yaml", "--set", "events.0.count=9"]) == 1
    captured = capsys.readouterr()
    assert "\npair.yaml:10:10: not met: link 'guard': runs: want 10, have 9\n" in captured.out
    assert "\n0 of 2 expectations met\n" in captured.out
    assert captured.err == ""


def test_machine_form_has_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "pair.yaml", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert list(summary) == [
        "version", "scenario", "file", "seed", "end_ns", "met", "hosts", "loads", "links", "events", "maps", "sockets",
        "flows", "tasks", "reads", "records", "wires", "expectations", "digest",
    ]  # fmt: skip
    assert summary["links"][0]["verdicts"] == {"XDP_DROP": 10}
    assert summary["links"][0]["ns_per_packet"] > 0
    assert summary["hosts"]["b"]["costs"]["profile"] == "skx3"
    assert summary["wires"][0]["directions"][0]["delivered"] == 10
    assert summary["expectations"][0] == {
        "at": "pair.yaml:10:10", "expectation": "expect.0", "what": "link 'guard': runs", "want": "10", "have": "10",
        "met": True,
    }  # fmt: skip


def test_until_and_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "pair.yaml", "--json", "--until", "1.08ms", "--seed", "9"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["end_ns"], summary["seed"]) == (1_080_000, 9)


def test_capture_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "pair.yaml", "--pcap", "out.pcapng"]) == 0
    assert (folder / "out.pcapng").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    capsys.readouterr()
    assert run(["run", "pair.yaml", "--pcap", "no/such/out.pcapng"]) == 2
    assert (
        capsys.readouterr().err == "no/such/out.pcapng: error: capture cannot be written: no such file or directory\n"
    )


def test_refusal_of_the_kernel_exits_with_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pair.yaml").write_text(TEXT.replace("r0 = 1; exit", "r0 = r5; exit"))
    assert run(["run", "pair.yaml"]) == 3
    captured = capsys.readouterr()
    assert captured.err.startswith("pair.yaml:7:17: error: prog_load: refused by the verifier (EACCES)\n")
    assert "  R5 !read_ok\n" in captured.err
    assert captured.out == ""


def test_missing_capability_exits_with_4(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pair.yaml").write_text(TEXT.replace("hook: xdp, device: eth0", "hook: lwt_seg6local, target: main"))
    assert run(["run", "pair.yaml"]) == 4
    assert capsys.readouterr().err.startswith("pair.yaml:8:43: error: not modelled: hook 'lwt_seg6local'\n")


def test_a_terminal_changes_colours_only(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["run", "pair.yaml"]) == 0
    plain = capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert run(["run", "pair.yaml"]) == 0
    coloured = capsys.readouterr().out
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_report_is_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "run.html"
    assert run(["run", "pair.yaml", "--report", str(page)]) == 0
    text = page.read_text()
    assert "<h1>pair</h1>" in text
    assert "2 of 2 expectations met" in text
    assert run(["run", "pair.yaml", "--report", str(tmp_path)]) == 2
    assert "report cannot be written: is a directory" in capsys.readouterr().err
