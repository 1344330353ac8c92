"""``ebpfsim prog``: verify and run."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.btf.encode import encode_types
from ebpfsim.cli.main import run

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"
FIREWALL, REJECTED, CHAIN = (str(BPF / f"{name}.bpf.o") for name in ("firewall", "rejected", "parser_chain"))


def test_verify_says_one_line_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prog", "verify", CHAIN]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [name, "accept"] for name in ("parse_ipv4", "parse_tcp", "parse_udp", "parse_icmp", "parse_eth")
    ]


def test_verify_of_a_refused_program_exits_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prog", "verify", REJECTED]) == 3
    first, *explanation = capsys.readouterr().out.splitlines()
    assert first == "unchecked  reject        EACCES: R1 offset is outside of the packet"
    assert any("rejected.bpf.c:" in line for line in explanation)
    assert "    hint    The access needs 24 bytes from this pointer, nothing is proved to be there." in explanation
    assert run(["prog", "verify", REJECTED, "--no-explain"]) == 3
    assert capsys.readouterr().out == f"{first}\n"
    assert run(["prog", "verify", REJECTED, "--json", "--log-level", "1"]) == 3
    (row,) = json.loads(capsys.readouterr().out)
    assert row["explanation"]["hint"].startswith("The access needs 24 bytes")
    assert row["explanation"]["source"]["file"].endswith("rejected.bpf.c")
    assert row["verdict"] == "reject"
    assert any("invalid access to packet, off=23 size=1" in line for line in row["log"])


# programs of a debug kernel give the same on both engines, packet by packet
@pytest.mark.parametrize("options", [["--debug"], ["--debug", "--engine", "interp"], ["--engine", "interp"]])
def test_run_in_debug_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcap

    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    packets = [frame / IP(src=f"10.0.0.{number}", dst="10.0.0.9") / UDP() for number in range(1, 9)]
    wrpcap(str(tmp_path / "in.pcap"), packets)
    command = ["prog", "run", FIREWALL, "firewall", "--in", str(tmp_path / "in.pcap"), "--map", "blocked:10.0.0.3=1"]
    assert run(command) == 0
    plain = capsys.readouterr().out
    assert run([*command, *options]) == 0
    assert capsys.readouterr().out == plain


def test_run_counts_what_it_returns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcap

    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    packets = [frame / IP(src=f"10.0.0.{number}", dst="10.0.0.9") / UDP() for number in range(1, 9)]
    wrpcap(str(tmp_path / "in.pcap"), packets)
    command = ["prog", "run", FIREWALL, "firewall", "--in", str(tmp_path / "in.pcap")]
    assert run([*command, "--map", "blocked:10.0.0.3=1", "--out", str(tmp_path / "out.pcapng"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["retvals"] == {"XDP_DROP": 1, "XDP_PASS": 7}
    assert summary["packets"] == 8
    assert (tmp_path / "out.pcapng").stat().st_size > 8 * 42
    assert run(command) == 0
    assert capsys.readouterr().out.startswith("XDP_PASS       8\n8 packets, ")


def write_pcap(path: Path, frames: list[bytes], cut: int = 0) -> None:
    records = (struct.pack("<IIII", 0, 0, len(frame), len(frame) + cut) + frame for frame in frames)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(records))


HEADER = bytes.fromhex("02000000000202000000000108004500002e00010000401166cc0a0000")


def packet(host: int, size: int = 60) -> bytes:
    return (HEADER + bytes([host]) + bytes.fromhex("0a000002")).ljust(size, b"\0")


@pytest.mark.parametrize("repeat", [1, 3])
def test_run_on_many_packets_is_as_on_each(tmp_path: Path, repeat: int, capsys: pytest.CaptureFixture[str]) -> None:
    # with --out they go one by one; among them one of more than a page
    frames = [packet(number % 8, 9000 if number == 77 else 60) for number in range(300)]
    write_pcap(tmp_path / "in.pcap", frames)
    command = ["prog", "run", FIREWALL, "firewall", "--in", str(tmp_path / "in.pcap"), "--map", "blocked:10.0.0.3=1"]
    outputs = []
    for more in ([], ["--out", str(tmp_path / "out.pcapng")]):
        assert run([*command, "--repeat", str(repeat), "--json", *more]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert json.loads(outputs[0])["retvals"] == {"XDP_DROP": 38, "XDP_PASS": 262}


def test_run_says_on_standard_error_how_fast_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pcap(tmp_path / "in.pcap", [packet(1)] * 50)
    assert run(["prog", "run", FIREWALL, "firewall", "--in", str(tmp_path / "in.pcap"), "--repeat", "4"]) == 0
    out, err = capsys.readouterr()
    assert "this machine" not in out
    assert err.startswith("this machine: 200 runs in ")


def test_run_refuses_packets_that_were_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pcap(tmp_path / "in.pcap", [packet(1)], cut=40)
    assert run(["prog", "run", FIREWALL, "firewall", "--in", str(tmp_path / "in.pcap")]) == 2
    assert "packet 1 was captured with 60 of its 100 bytes" in capsys.readouterr().err


def test_run_names_the_packet_of_an_oops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebpfsim.errors import KernelOops
    from ebpfsim.kernel import _all_helpers

    def lookup(run: Any, *_args: int) -> int:
        run.cpu.scratch["calls"] = calls = int(run.cpu.scratch.get("calls", 0)) + 1
        if calls == 5:  # it looks up two keys a packet
            raise KernelOops("out of order")
        return 0

    monkeypatch.setattr("ebpfsim.kernel._all_helpers", lambda: {**_all_helpers(), 1: lookup})
    write_pcap(tmp_path / "in.pcap", [packet(1)] * 5)
    assert run(["prog", "run", FIREWALL, "firewall", "--in", str(tmp_path / "in.pcap")]) != 0
    err = capsys.readouterr().err
    assert f"packet 3 of {tmp_path / 'in.pcap'}:" in err
    assert "out of order" in err


@pytest.mark.parametrize("more", [[], ["--step"], ["--debug"], ["--engine", "interp"], ["--out", "out.pcapng"]])
def test_run_names_the_packet_that_is_too_short(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pcap(tmp_path / "in.pcap", [packet(1), packet(2), packet(3)[:10]])
    assert run(["prog", "run", FIREWALL, "firewall", "--in", "in.pcap", *more]) != 0
    err = capsys.readouterr().err
    assert "packet 3 of in.pcap:\nerror: prog_test_run: Invalid argument (EINVAL): frame of 10 bytes" in err


def test_run_in_single_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcap

    packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.3", dst="10.0.0.2") / UDP()
    wrpcap(str(tmp_path / "in.pcap"), [packet])
    command = ["prog", "run", FIREWALL, "firewall", "--in", str(tmp_path / "in.pcap")]
    assert run([*command, "--step"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("; ")
    assert "firewall.bpf.c:" in lines[0]
    assert lines[1].startswith("firewall:    0: (")
    # the program ends by exit, with the verdict in R0 at its last change
    steps = [line for line in lines if line.startswith("firewall: ")]
    assert steps[-1].endswith("(95) exit")
    assert [line for line in lines if line.startswith("    r0 = ")][-1] == "    r0 = 0x2"
    assert lines[-2].split() == ["XDP_PASS", "1"]
    assert run([*command, "--step", "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("{")
    assert "(95) exit" in err


def test_single_steps_go_on_behind_a_tail_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pcap(tmp_path / "in.pcap", [packet(1)])
    command = ["prog", "run", CHAIN, "parse_eth", "--in", str(tmp_path / "in.pcap"), "--step"]
    outputs = []
    for engine in ("interp", "jit"):
        assert run([*command, "--engine", engine]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    steps = {line.partition(":")[0] for line in outputs[0].splitlines() if "(" in line and line[0] not in "; "}
    assert len(steps) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "no.o"], "no.o: error: no such file"),
        (["verify", "."], ".: error: is a folder, expected an object file"),
        (["verify", FIREWALL, "firewal"], "no program 'firewal'; did you mean 'firewall'?"),
        (["run", FIREWALL, "firewall", "--in", "no.pcap"], "no.pcap: error: capture cannot be read"),
        (["run", FIREWALL, "firewall"], "Missing option '--in'"),
    ],
)
def test_wrong_input_exits_with_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prog", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("blocked", "'blocked' is not NAME:KEY=VALUE"),
        ("blokd:1=2", "no map 'blokd'; did you mean 'blocked'?"),
        ("blocked:10.0.0.1=many", "is neither a number nor an address"),
    ],
)
def test_wrong_map_entry(entry: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from scapy.layers.l2 import Ether
    from scapy.utils import wrpcap

    wrpcap(str(tmp_path / "in.pcap"), [Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / b"x"])
    assert run(["prog", "run", FIREWALL, "firewall", "--in", str(tmp_path / "in.pcap"), "--map", entry]) == 2
    assert message in capsys.readouterr().err


def test_verify_for_a_task_with_few_capabilities(capsys: pytest.CaptureFixture[str]) -> None:
    """Without CAP_PERFMON no pointer is subtracted from another: firewall.bpf.c computes data_end - data."""
    assert run(["prog", "verify", FIREWALL, "--caps", "CAP_BPF,CAP_NET_ADMIN"]) == 3
    assert "EACCES: R6 pointer -= pointer prohibited" in capsys.readouterr().out
    assert run(["prog", "verify", FIREWALL, "--caps", "CAP_BPF"]) == 3
    assert "needs CAP_NET_ADMIN" in capsys.readouterr().out
    assert run(["prog", "verify", FIREWALL, "--caps", "CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON"]) == 0
    assert run(["prog", "verify", FIREWALL, "--caps", "CAP_BFP"]) == 2
    assert "did you mean 'CAP_BPF'?" in capsys.readouterr().err


def test_verify_against_the_types_of_another_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    core = str(Path(__file__).resolve().parents[3] / "data" / "bpf" / "core.bpf.o")
    run(["prog", "verify", core, "fields"])
    assert "unknown#" not in capsys.readouterr().out
    (tmp_path / "empty.btf").write_bytes(encode_types([]))
    assert run(["prog", "verify", core, "fields", "--kernel-btf", str(tmp_path / "empty.btf")]) == 3
    assert "EINVAL: failed to resolve CO-RE relocation <byte_off> [" in capsys.readouterr().out
