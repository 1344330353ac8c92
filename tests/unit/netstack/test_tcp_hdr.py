"""Segments as bytes, beside scapy's reading of them; sequence numbers that wrap (RFC 9293, 3.1 and 3.4; RFC 7323)."""

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP

from netstack.tcp_hdr import (
    ACK,
    M32,
    PSH,
    SYN,
    OptionsReceived,
    SynOptions,
    Tcphdr,
    after,
    before,
    established_options,
    syn_options,
    tcp_bytes,
)  # fmt: skip

A, B = 0x0A000001, 0x0A000002


def scapy_of(segment: bytes) -> TCP:
    return TCP(segment)


def test_a_syn_with_all_options() -> None:
    options = syn_options(SynOptions(1460, wscale=7, tstamp=(1, 2), sack=True))
    segment = tcp_bytes(A, B, (1000, 80), 5, 0, SYN, 64240, options)
    found = scapy_of(segment)
    assert (found.sport, found.dport, found.seq, found.flags, found.window) == (1000, 80, 5, "S", 64240)
    assert found.options == [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7)]
    opts = OptionsReceived(Tcphdr(segment))
    assert (opts.mss_clamp, opts.snd_wscale, opts.sack_ok, opts.tstamp_ok, opts.rcv_tsval) == (1460, 7, True, True, 1)


@given(
    data=st.binary(max_size=50),
    seq=st.integers(0, M32),
    tstamp=st.none() | st.tuples(st.integers(0, M32), st.integers(0, M32)),
    sacks=st.lists(st.tuples(st.integers(0, M32), st.integers(0, M32)), max_size=3),
)
def test_what_is_written_is_read(data: bytes, seq: int, tstamp: tuple[int, int] | None, sacks: list) -> None:
    segment = tcp_bytes(A, B, (1, 2), seq, 7, ACK | PSH, 9, established_options(tstamp, sacks), data)
    th = Tcphdr(segment)
    assert (th.seq, th.ack_seq, th.window, th.data) == (seq, 7, 9, data)
    assert th.end_seq == (seq + len(data)) & M32
    assert th.sacks == tuple(sacks)
    assert (th.tsval, th.tsecr) == (tstamp or (0, 0))
    # scapy fills in the checksum that it wants
    packet = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(segment)
    del packet[TCP].chksum
    assert bytes(packet)[20:] == segment


def test_syn_and_fin_count() -> None:
    th = Tcphdr(tcp_bytes(A, B, (1, 2), M32, 0, SYN | 1, 0, b"", b"ab"))
    assert th.end_seq == 3


def test_silly_options_end_the_list() -> None:
    # a length of 1, one that is too long: what is behind them is not looked at (tcp_parse_options)
    for options in (b"\x02\x01\x05\xb4", b"\x02\x09\x05\xb4", b"\x00\x02\x04\x05\xb4\x00\x00\x00"):
        assert OptionsReceived(Tcphdr(tcp_bytes(A, B, (1, 2), 0, 0, SYN, 0, options))).mss_clamp == 0


def test_numbers_wrap() -> None:
    assert before(M32, 0)
    assert after(0, M32)
    assert not before(5, 5)
    assert not after(5, 5)
    assert before(0, 0x7FFF_FFFF)
    assert after(0, 0x8000_0001)
