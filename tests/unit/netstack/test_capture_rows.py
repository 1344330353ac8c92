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
