import struct

from hypothesis import given
from hypothesis import strategies as st

from netstack.checksum import _plain, csum_fold, csum_partial, csum_replace2, csum_tcpudp_nofold, ip_compute_csum


def test_checksum_of_rfc_1071_example() -> None:
    # RFC 1071, section 3: these bytes sum up to ddf2 (one's complement), so the field is its complement
    assert ip_compute_csum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF


def test_checksum_of_an_ipv4_header() -> None:
    # the header of RFC 1624's discussion is not complete; this one was captured from Linux 6.18 (an ICMP error)
    header = bytes.fromhex("45dc003df0cf0000400173120a0001020a000101")
    assert ip_compute_csum(header) == 0
    assert ip_compute_csum(header[:10] + b"\0\0" + header[12:]) == 0x7312


def test_incremental_update_of_rfc_1624_example() -> None:
    # RFC 1624, section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000, where RFC 1141 gave 0xFFFF
    assert csum_replace2(0xDD2F, 0x5555, 0x3285) == 0x0000


def test_odd_byte_is_padded_on_the_right() -> None:
    assert csum_partial(b"\x12") == 0x1200
    assert csum_partial(b"") == 0


@given(st.binary(max_size=300), st.integers(0, 1 << 40))
def test_checksum_equals_the_sum_of_words(data: bytes, initial: int) -> None:
    padded = data + b"\0" * (len(data) & 1)
    words = struct.unpack(f"!{len(padded) // 2}H", padded)
    total = sum(words) + initial
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert csum_fold(csum_partial(data, initial)) == total ^ 0xFFFF


@given(st.binary(min_size=20, max_size=20), st.integers(0, 4), st.integers(0, 0xFFFF))
def test_incremental_update_equals_recomputation(header: bytes, word: int, new: int) -> None:
    # words 0 to 4 of an IPv4 header; word 5 is the checksum; a header is never all zero (version 4)
    header = b"\x45" + header[1:10] + b"\0\0" + header[12:]
    check = ip_compute_csum(header)
    old = int.from_bytes(header[2 * word : 2 * word + 2], "big")
    if word == 0:
        new |= 0x4500
    changed = header[: 2 * word] + new.to_bytes(2, "big") + header[2 * word + 2 :]
    assert csum_replace2(check, old, new) == ip_compute_csum(changed)


@given(st.binary(max_size=100), st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF_FFFF))
def test_pseudo_header_equals_scapys(payload: bytes, saddr: int, daddr: int) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.packet import Raw

    packet = IP(src=_text(saddr), dst=_text(daddr)) / UDP(sport=1, dport=2) / Raw(payload)
    datagram = bytes(packet)[20:]
    zeroed = datagram[:6] + b"\0\0" + datagram[8:]
    total = csum_partial(zeroed, csum_tcpudp_nofold(saddr, daddr, len(datagram), 17))
    # a sum of zero is sent as 0xffff (RFC 768), which scapy does too
    assert (csum_fold(total) or 0xFFFF) == int.from_bytes(datagram[6:8], "big")


def _text(address: int) -> str:
    return ".".join(str(byte) for byte in address.to_bytes(4, "big"))


@given(st.binary(max_size=300))
def test_the_sum_without_machine_code_is_the_same(data: bytes) -> None:
    assert _plain(data) == csum_partial(data) == csum_partial(memoryview(data))
