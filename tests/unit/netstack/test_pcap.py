import struct

import pytest
from scapy.layers.l2 import Ether
from scapy.utils import PcapNgWriter, PcapWriter

from ebpfsim.errors import InputError
from netstack.pcap import read_capture

FRAMES = [bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x88B5) / bytes([n] * 50)) for n in (1, 2)]
SECONDS = 1_700_000_000


def pcap(magic: int = 0xA1B23C4D, link: int = 1, order: str = "<", wire_sizes=None, frames=FRAMES) -> bytes:
    """A pcap file by its specification (pcap-savefile(5)); time stamps are 0.000123 and 1.000124 of their unit."""
    data = struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, 65535, link)
    for number, frame in enumerate(frames):
        wire = wire_sizes[number] if wire_sizes else len(frame)
        data += struct.pack(order + "IIII", SECONDS + number, 123 + number, len(frame), wire) + frame
    return data


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
NANOSECONDS = struct.pack("<HHB3x", 9, 1, 9)


def interface(name: bytes = b"", options: bytes = b"", link: int = 1) -> bytes:
    padded = name + bytes(-len(name) % 4)
    text = struct.pack("<HH", 2, len(name)) + padded if name else b""
    return block(1, struct.pack("<HHI", link, 0, 0) + text + options + struct.pack("<HH", 0, 0))


def packet(ticks: int, frame: bytes, index: int = 0, wire_size: int | None = None) -> bytes:
    head = struct.pack("<IIIII", index, ticks >> 32, ticks & 0xFFFF_FFFF, len(frame), wire_size or len(frame))
    return block(6, head + frame)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit_ns"), [(0xA1B23C4D, 1), (0xA1B2C3D4, 1000)])
def test_pcap(order, magic, unit_ns) -> None:
    captured = read_capture(pcap(magic, order=order))
    assert captured == [
        (SECONDS * 10**9 + 123 * unit_ns, FRAMES[0], ""),
        ((SECONDS + 1) * 10**9 + 124 * unit_ns, FRAMES[1], ""),
    ]


@pytest.mark.parametrize(
    ("options", "ticks", "time_ns"),
    [
        (NANOSECONDS, SECONDS * 10**9 + 7, SECONDS * 10**9 + 7),
        (b"", SECONDS * 10**6 + 7, SECONDS * 10**9 + 7_000),
        # 2**-10 of a second (the highest bit of if_tsresol)
        (struct.pack("<HHB3x", 9, 1, 0x8A), SECONDS * 1024 + 512, SECONDS * 10**9 + 500_000_000),
        (NANOSECONDS + struct.pack("<HHq", 14, 8, 5), 9, 5 * 10**9 + 9),
    ],
)
def test_pcapng_resolutions(options, ticks, time_ns) -> None:
    data = SECTION + interface(options=options) + packet(ticks, FRAMES[0])
    assert read_capture(data) == [(time_ns, FRAMES[0], "")]


def test_pcapng_interfaces() -> None:
    data = (
        SECTION
        + interface(b"eth0", NANOSECONDS)
        + interface(b"a/eth1", NANOSECONDS)
        + packet(5, FRAMES[0])
        + block(0x0BAD, b"unknown blocks are skipped..")
        + packet(6, FRAMES[1], 1)
    )
    assert [frame.interface for frame in read_capture(data)] == ["eth0", "a/eth1"]
    assert read_capture(data, interface="a/eth1") == [(6, FRAMES[1], "a/eth1")]
    with pytest.raises(InputError, match="no packet of interface 'eth7'\ntry: one of a/eth1, eth0"):
        read_capture(data, interface="eth7")


def test_files_that_scapy_wrote(tmp_path) -> None:
    for writer, name in ((PcapWriter, "x.pcap"), (PcapNgWriter, "x.pcapng")):
        with writer(str(tmp_path / name)) as out:
            for number, frame in enumerate(FRAMES):
                scapys = Ether(frame)
                scapys.time = SECONDS + number + 0.25
                out.write(scapys)
        captured = read_capture(tmp_path / name)
        assert [frame.data for frame in captured] == FRAMES
        assert captured[1].time_ns - captured[0].time_ns == 10**9


NG = SECTION + interface(options=NANOSECONDS)
BAD = [
    ("empty", b"", "this is no capture: it begins neither as pcap nor as pcapng"),
    ("a JPEG", b"\xff\xd8\xff\xe0" + bytes(100), "this is no capture"),
    ("header cut", pcap()[:20], "the capture's header is cut short: 20 of 24 bytes"),
    ("packet cut", pcap()[:-1], "packet 2 is cut short: 63 of 64 bytes are in the file"),
    ("packet header cut", pcap() + b"12345", "the capture ends in the middle of a packet's header"),
    ("link type", pcap(link=113), "packet 1 has link type 113, only Ethernet"),
    ("snapshot", pcap(wire_sizes=[64, 1500]), "packet 2 was captured with 64 of its 1500 bytes"),
    ("pcapng cut", (NG + packet(1, FRAMES[0]))[:-7], "the capture is damaged"),
    ("pcapng only magic", b"\x0a\x0d\x0d\x0a", "the capture is damaged"),
    ("pcapng link type", SECTION + interface(link=101) + packet(1, FRAMES[0]), "packet 1 has link type 101"),
    ("pcapng no interface", SECTION + packet(1, FRAMES[0]), "the capture is damaged"),
    ("pcapng snapshot", NG + packet(1, FRAMES[0], wire_size=99), "packet 1 was captured with 64 of its 99 bytes"),
    ("pcapng without time", NG + block(3, struct.pack("<I", 64) + FRAMES[0]), "packet 1 has no time stamp"),
]


@pytest.mark.parametrize(("data", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_captures(data, message) -> None:
    with pytest.raises(InputError, match=f"^t.pcap: error: {message}"):
        read_capture(data, where="t.pcap")


def test_missing_file(tmp_path) -> None:
    with pytest.raises(InputError, match="capture cannot be read: No such file or directory"):
        read_capture(tmp_path / "none.pcap")
