"""``ebpfsim prog``: verify and run."""

import json
from pathlib import Path

import pytest

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
    assert capsys.readouterr().out == "unchecked  reject        EACCES: R1 offset is outside of the packet\n"
    assert run(["prog", "verify", REJECTED, "--json", "--log-level", "1"]) == 3
    (row,) = json.loads(capsys.readouterr().out)
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
