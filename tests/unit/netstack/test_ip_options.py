"""IPv4 options: RFC 791 (3.1), RFC 1122 (3.2.1.8, 3.2.2.5), RFC 1812 (5.3.13), RFC 2113."""

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from netstack.checksum import ip_compute_csum
from netstack.headers import parse_ip
from netstack.ip_options import fragment_options, options_of

E = bytes(Ether(dst="02:00:00:00:00:0b", src="02:00:00:00:00:0a"))[:12] + b"\x08\0"
UDP_DATA = bytes(UDP(sport=1000, dport=53, chksum=0) / b"hello")
ECHO = bytes(ICMP(id=7, seq=1) / b"abcdefgh")


def frame(options: bytes, *, dst: str = "10.0.1.2", ttl: int = 9, proto: int = 17, data: bytes = UDP_DATA) -> bytes:
    header = bytearray(bytes(IP(src="10.0.1.1", dst=dst, ttl=ttl, proto=proto, id=1))[:20] + options)
    header[0] = 0x40 + len(header) // 4
    header[2:4] = (len(header) + len(data)).to_bytes(2, "big")
    header[10:12] = b"\0\0"
    header[10:12] = ip_compute_csum(header).to_bytes(2, "big")
    return E + bytes(header) + data


def rr(slots: int, pointer: int = 4) -> bytes:
    size = 3 + 4 * slots
    return bytes([7, size, pointer]) + bytes(4 * slots) + bytes(-size % 4)


def stamp(flag: int, slots: int, *, pointer: int = 5, overflow: int = 0, prefill: bytes = b"") -> bytes:
    size = 4 + (4 if flag == 0 else 8) * slots
    return bytes([68, size, pointer, overflow << 4 | flag]) + prefill.ljust(size - 4, b"\0")


@pytest.mark.parametrize(
    "options",
    [b"\x01" * 4, b"\0\0\0\0", b"\x94\x04\0\0", rr(1), rr(9), rr(1, 8), stamp(0, 2), stamp(1, 2), b"\x88\x04\0\x01"],
)
def test_right_options_are_delivered(lab, options) -> None:
    outcome = lab.bench().case(frame(options))
    assert (outcome.reason, outcome.counters["UdpInDatagrams"]) == ("", 1)


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        # a length below 2, and one beyond the header
        (b"\x07\x01\x04\0", 20),
        (b"\x07\x00\x04\0", 20),
        (b"\x01\x01\x07\x09", 22),
        # RFC 791: the smallest legal value of the pointer is 4, for timestamps 5
        (rr(1, 3), 22),
        (stamp(0, 1, pointer=4), 22),
        # no room for an address at the pointer
        (rr(1, 5), 22),
        # an option must not be there twice
        (rr(1)[:7] + b"\x01" + rr(1), 28),
        # RFC 791: the overflow counter itself overflows
        (stamp(0, 1, pointer=9, overflow=15), 23),
        (b"\x01\x01\x01\x94", 23),
    ],
)
def test_wrong_options_are_answered(lab, options, pointer) -> None:
    outcome = lab.bench().case(frame(options))
    assert (outcome.reason, outcome.counters["IpInHdrErrors"]) == ("IP_INHDR", 1)
    (reply,) = outcome.replies
    # RFC 792: parameter problem, code 0, the pointer to the byte
    assert (reply[34], reply[35], reply[38]) == (12, 0, pointer)


@pytest.mark.parametrize("kind", [131, 137])
def test_source_routes_are_refused(lab, kind) -> None:
    options = bytes([kind, 7, 4]) + bytes([10, 0, 2, 9]) + b"\0"
    outcome = lab.bench().case(frame(options))
    assert (outcome.reason, outcome.replies) == ("NOT_SPECIFIED", [])


def test_a_router_records_itself(lab) -> None:
    (out,) = lab.bench(forward=True).case(frame(rr(2), dst="10.0.2.9")).forwarded
    # RFC 791: its own address as known in the environment into which the datagram is forwarded
    assert out[34:45] == bytes([7, 11, 8, 10, 0, 2, 2, 0, 0, 0, 0])
    assert ip_compute_csum(out[14 : 14 + (out[14] & 15) * 4]) == 0


def test_a_full_record_goes_on_unchanged(lab) -> None:
    sent = frame(rr(1, 8), dst="10.0.2.9")
    (out,) = lab.bench(forward=True).case(sent).forwarded
    assert out[34:42] == sent[34:42]


@pytest.mark.parametrize(("flag", "written", "pointer"), [(0, 4, 9), (1, 8, 13)])
def test_a_router_stamps(lab, flag, written, pointer) -> None:
    (out,) = lab.bench(forward=True).case(frame(stamp(flag, 2), dst="10.0.2.9")).forwarded
    assert out[36] == pointer
    if flag:
        assert out[38:42] == bytes([10, 0, 2, 2])
    assert out[38 + written :][:4] == bytes(4)


def test_a_stamp_that_does_not_fit_is_counted(lab) -> None:
    (out,) = lab.bench(forward=True).case(frame(stamp(0, 1, pointer=9), dst="10.0.2.9")).forwarded
    assert out[37] >> 4 == 1


@pytest.mark.parametrize(("address", "pointer"), [("10.0.2.2", 13), ("10.9.9.9", 5)])
def test_a_stamp_is_for_the_one_that_is_named(lab, address, pointer) -> None:
    prefill = parse_ip(address).to_bytes(4, "big")
    (out,) = lab.bench(forward=True).case(frame(stamp(3, 1, prefill=prefill), dst="10.0.2.9")).forwarded
    assert out[36] == pointer


def test_an_echo_reply_has_the_record_route(lab) -> None:
    # RFC 1122, 3.2.2.6: the record route goes into the reply
    (reply,) = lab.bench().case(frame(rr(3), proto=1, data=ECHO)).replies
    assert reply[14] == 0x49
    assert reply[34] == 7
    assert reply[50] == 0


def test_later_fragments_have_no_options_that_are_not_copied() -> None:
    header = b"\x49" + bytes(19) + b"\x07\x07\x04\0\0\0\0" + b"\x94\x04\0\0" + b"\x01" + bytes(4)
    assert fragment_options(header)[20:] == b"\x01" * 7 + b"\x94\x04\0\0" + b"\x01" + bytes(4)
    assert options_of(header) == [(7, 20, 7), (0x94, 27, 4), (1, 31, 1)]
