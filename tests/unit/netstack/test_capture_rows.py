"""Captures as rows: the packets of ``read_capture``, and what it refuses."""

import ctypes
import struct
from pathlib import Path

import pytest

from ebpfsim.errors import InputError
from netstack import capture_rows
from netstack.pcap import read_capture

FRAMES = [bytes([number]) * size for number, size in enumerate((14, 60, 1514, 9000, 20, 64), 1)]
# pcap-savefile(5): magic numbers for microseconds and nanoseconds
MAGICS = {"micro": 0xA1B2C3D4, "nano": 0xA1B23C4D}


def classic(
    frames: list[bytes], order: str = "<", *, magic: int = 0xA1B2C3D4, link_type: int = 1, cut: int = 0
) -> bytes:
    data = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)
    for number, frame in enumerate(frames):
        data += struct.pack(f"{order}IIII", number, 0, len(frame), len(frame) + cut) + frame
    return data


def packets(path: Path) -> list[list[bytes]]:
    parts = []
    for rows in capture_rows.capture_rows(str(path)):
        words = list(rows.words)
        parts.append([ctypes.string_at(at, size) for at, size in zip(words[::2], words[1::2], strict=True)])
    return parts


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", MAGICS)
def test_packets_are_those_of_the_file(tmp_path: Path, order: str, magic: str) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(classic(FRAMES, order, magic=MAGICS[magic]))
    assert packets(path) == [FRAMES]
    assert [frame.data for frame in read_capture(path)] == FRAMES


def test_pcapng(tmp_path: Path) -> None:
    from ebpfsim.recorder import PacketRecord
    from ebpfsim.report.pcapng import Interface, write_pcapng

    path = tmp_path / "in.pcapng"
    with path.open("wb") as stream:
        write_pcapng(stream, [Interface("a/b")], [PacketRecord(5, "a", "b", "in", frame) for frame in FRAMES])
    assert packets(path) == [FRAMES]


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(f"{order}II", kind, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def section(order: str, frames: list[bytes], link_type: int = 1) -> bytes:
    """A section of pcapng with an interface, name resolution (which says nothing here) and packets."""
    data = block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    data += block(order, 1, struct.pack(f"{order}HHI", link_type, 0, 0)) + block(order, 4, bytes(4))
    for frame in frames:
        head = struct.pack(f"{order}IIIII", 0, 0, 7, len(frame), len(frame))
        data += block(order, 6, head + frame)
    return data


@pytest.mark.parametrize("orders", ["<", ">", "<>"])
def test_pcapng_is_walked(tmp_path: Path, orders: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "in.pcapng"
    path.write_bytes(b"".join(section(order, FRAMES) for order in orders))
    expected = [frame.data for frame in read_capture(path)]
    assert expected == FRAMES * len(orders)
    monkeypatch.setattr(capture_rows, "read_capture", None)
    assert packets(path) == [expected]
    monkeypatch.setattr(capture_rows, "PART", 4)
    assert [len(part) for part in packets(path)] == [4] * (len(expected) // 4) + [len(expected) % 4][
        : len(expected) % 4
    ]


def simple_packet() -> bytes:
    return section("<", FRAMES) + block("<", 3, struct.pack("<I", 60) + bytes(60))


def test_parts_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_rows, "PART", 4)
    path = tmp_path / "in.pcap"
    path.write_bytes(classic(FRAMES * 2))
    assert packets(path) == [FRAMES[:4], [*FRAMES[4:], *FRAMES[:2]], FRAMES[2:]]
    path.write_bytes(classic(FRAMES[:4]))
    assert packets(path) == [FRAMES[:4]]
    path.write_bytes(classic([]))
    assert packets(path) == []


def test_a_part_may_be_left(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(classic(FRAMES))
    parts = capture_rows.capture_rows(str(path))
    next(parts)
    parts.close()  # type: ignore[attr-defined]


WRONG = {
    "snapped": classic(FRAMES[:2], cut=5),
    "link type": classic(FRAMES, link_type=101),
    "cut in a packet": classic(FRAMES)[:-3],
    "cut in a header": classic(FRAMES) + bytes(7),
    "header only in part": classic([])[:20],
    "nothing": b"",
    "text": b"this is no capture at all",
    "missing": None,
    "pcapng: simple packet": simple_packet(),
    "pcapng: link type": section("<", FRAMES, 113),
    "pcapng: cut in a packet": section(">", FRAMES)[:-20],
    "pcapng: section only in part": section("<", [])[:20],
    "pcapng: snapped": section("<", []) + block("<", 6, struct.pack("<IIIII", 0, 0, 7, 20, 60) + bytes(20)),
}


@pytest.mark.parametrize("what", WRONG)
def test_refused_as_for_a_replay(tmp_path: Path, what: str) -> None:
    path = tmp_path / "in.pcap"
    data = WRONG[what]
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError) as expected:
        read_capture(path)
    with pytest.raises(InputError) as found:
        packets(path)
    assert str(found.value) == str(expected.value)
