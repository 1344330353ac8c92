"""Captures, read back by other programs: python-pcapng, scapy and, where it is installed, tshark."""

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from pcapng import FileScanner
from pcapng.blocks import EnhancedPacket, InterfaceDescription

from ebpfsim.recorder import PacketRecord
from ebpfsim.report.pcapng import Interface, write_pcapng
from netstack.pcap import read_capture

INTERFACES = [Interface("client/eth0", "02:00:00:00:01:01", 10**9), Interface("server/eth0", "02:00:00:00:02:01")]
PACKETS = [
    PacketRecord(1_000_000, "client", "eth0", "out", bytes(range(60))),
    PacketRecord(1_058_192, "server", "eth0", "in", bytes(range(60)), 3, "XDP_DROP", "XDP"),
    PacketRecord(1_000_001, "server", "eth0", "in", bytes(61), 0, "XDP_PASS"),
    PacketRecord((1 << 32) + 5, "server", "eth0", "out", bytes(1514), reason="QDISC_DROP"),
]
ORDER = [PACKETS[0], PACKETS[2], PACKETS[1], PACKETS[3]]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "out.pcapng"
    with path.open("wb") as stream:
        assert write_pcapng(stream, INTERFACES, PACKETS) == 4
    return path


def test_blocks(capture: Path) -> None:
    with capture.open("rb") as stream:
        blocks = list(FileScanner(stream))
    devices = [block for block in blocks if isinstance(block, InterfaceDescription)]
    assert [device.options["if_name"] for device in devices] == ["client/eth0", "server/eth0"]
    assert devices[0].options["if_speed"] == 10**9
    packets = [block for block in blocks if isinstance(block, EnhancedPacket)]
    times = [(block.timestamp_high << 32) + block.timestamp_low for block in packets]
    assert times == [record.time_ns for record in ORDER]
    assert [block.packet_data for block in packets] == [record.data for record in ORDER]
    # epb_flags, draft-ietf-opsawg-pcapng section 4.3: bits 0-1 are 1 for inbound, 2 for outbound
    assert [int(block.options["epb_flags"]) & 3 for block in packets] == [2, 1, 1, 2]
    # epb_verdict: type 2 is Linux eBPF XDP, followed by the program's result in 64 bits
    assert packets[2].options["epb_verdict"] == (2, (1).to_bytes(8, "little"))
    assert packets[1].options["epb_verdict"] == (2, (2).to_bytes(8, "little"))
    assert "epb_verdict" not in packets[0].options
    assert packets[2].options["opt_comment"] == "XDP_DROP, XDP"
    assert packets[3].options["opt_comment"] == "QDISC_DROP"
    assert packets[2].options["epb_queue"] == 3


def test_our_own_reader_agrees(capture: Path) -> None:
    frames = read_capture(capture)
    assert [(frame.time_ns, frame.data) for frame in frames] == [(record.time_ns, record.data) for record in ORDER]
    assert [frame.interface for frame in frames] == ["client/eth0", "server/eth0", "server/eth0", "server/eth0"]


def test_scapy_agrees(capture: Path) -> None:
    from scapy.utils import rdpcap

    assert [bytes(packet) for packet in rdpcap(str(capture))] == [record.data for record in ORDER]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_agrees(capture: Path) -> None:
    fields = ("frame.time_epoch", "frame.interface_name", "frame.len", "frame.comment", "frame.verdict.ebpf_xdp")
    command = ["tshark", "-r", str(capture), "-T", "fields", *(word for field in fields for word in ("-e", field))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows == [
        ["0.001000000", "client/eth0", "60", "", ""],
        ["0.001000001", "server/eth0", "61", "XDP_PASS", "2"],
        ["0.001058192", "server/eth0", "60", "XDP_DROP, XDP", "1"],
        ["4.294967301", "server/eth0", "1514", "QDISC_DROP", ""],
    ]


def test_same_packets_give_the_same_bytes() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    write_pcapng(first, INTERFACES, PACKETS)
    write_pcapng(second, INTERFACES, PACKETS)
    assert first.getvalue() == second.getvalue()


def test_capture_without_packets_is_one() -> None:
    stream = io.BytesIO()
    assert write_pcapng(stream, INTERFACES, []) == 0
    stream.seek(0)
    assert sum(isinstance(block, InterfaceDescription) for block in FileScanner(stream)) == 2
