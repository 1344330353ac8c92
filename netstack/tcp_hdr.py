"""TCP segments as bytes and as fields (RFC 9293, 7323, 2018; include/uapi/linux/tcp.h, include/net/tcp.h, v6.18).

Sequence numbers are integers of 32 bits that wrap; ``before`` and ``after`` compare them. Options are written in the
order in which Linux writes them (``tcp_options_write``).

Left out: MD5, AO, Fast Open, MPTCP and SMC options, which are skipped when they are received.
"""

from collections.abc import Sequence
from struct import Struct

from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_fold, csum_partial, csum_tcpudp_nofold

__all__ = [
    "ACK", "CWR", "ECE", "FIN", "FLAG_NAMES", "M32", "PSH", "RST", "SYN", "TCP_HLEN", "TSTAMP_ALIGNED", "URG",
    "OptionsReceived", "SynOptions", "Tcphdr", "after", "before", "established_options", "syn_options", "tcp_bytes",
    "tcp_partial",
]  # fmt: skip

TCP_HLEN = 20
M32 = 0xFFFF_FFFF
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
FLAG_NAMES = {FIN: "F", SYN: "S", RST: "R", PSH: "P", ACK: ".", URG: "U", ECE: "E", CWR: "C"}

TCPOPT_EOL, TCPOPT_NOP, TCPOPT_MSS, TCPOPT_WINDOW, TCPOPT_SACK_PERM, TCPOPT_SACK, TCPOPT_TIMESTAMP = 0, 1, 2, 3, 4, 5, 8
TCP_MAX_WSCALE = 14
TSTAMP_ALIGNED = 12  # bytes of a timestamp with its padding
# NOP NOP TIMESTAMP 10: how nearly every segment of a connection begins its options
_TS_HEAD = 0x0101_080A

_HDR = Struct("!HHIIHHHH")
_TS = Struct("!III")
_PAIR = Struct("!II")


def before(seq1: int, seq2: int) -> bool:
    """Tell whether a sequence number comes before another one."""
    return (seq1 - seq2) & M32 > 0x7FFF_FFFF


def after(seq1: int, seq2: int) -> bool:
    """Tell whether a sequence number comes after another one."""
    return (seq2 - seq1) & M32 > 0x7FFF_FFFF


class Tcphdr:
    """A segment that was received: ``struct tcphdr``, its data and its place in the stream.

    ``end_seq`` counts SYN and FIN; ``sacked`` are the SACK blocks, None without the option; ``tsval`` and ``tsecr``
    are those of the timestamp option when ``saw_tstamp``.
    """

    __slots__ = (
        "ack_seq", "data", "dest", "doff", "end_seq", "flags", "options", "sacks", "saw_tstamp", "seq", "source",
        "tsecr", "tsval", "urg_ptr", "window",
    )  # fmt: skip

    def __init__(self, segment: bytes) -> None:
        self.source, self.dest, self.seq, self.ack_seq, off_flags, self.window, _, self.urg_ptr = _HDR.unpack_from(
            segment
        )
        self.doff = doff = off_flags >> 12 << 2
        self.flags = flags = off_flags & 0xFF
        self.data = segment[doff:]
        # SYN is bit 1 and FIN bit 0
        self.end_seq = (self.seq + len(segment) - doff + (flags & FIN) + (flags >> 1 & 1)) & M32
        self.saw_tstamp = False
        self.tsval = self.tsecr = 0
        self.sacks: tuple[tuple[int, int], ...] = ()
        self.options = b""
        if doff > TCP_HLEN:
            if doff == TCP_HLEN + TSTAMP_ALIGNED:
                head, self.tsval, self.tsecr = _TS.unpack_from(segment, TCP_HLEN)
                if head == _TS_HEAD:
                    self.saw_tstamp = True
                    return
                self.tsval = self.tsecr = 0
            self.options = segment[TCP_HLEN:doff]
            self._parse_options()

    def _parse_options(self) -> None:
        for kind, body in _each_option(self.options):
            if kind == TCPOPT_TIMESTAMP and len(body) == 8:
                self.saw_tstamp = True
                self.tsval, self.tsecr = _PAIR.unpack(body)
            elif kind == TCPOPT_SACK and len(body) >= 8 and not len(body) % 8:
                self.sacks = tuple(_PAIR.iter_unpack(body))

    def __str__(self) -> str:
        flags = "".join(name for bit, name in FLAG_NAMES.items() if self.flags & bit)
        return f"{flags} {self.seq}:{self.end_seq}({len(self.data)}) ack {self.ack_seq} win {self.window}"


def _each_option(options: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(options):
        kind = options[at]
        if kind == TCPOPT_EOL:
            break
        if kind == TCPOPT_NOP:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            # "silly options": what is behind them is not looked at
            break
        found.append((kind, options[at + 2 : at + size]))
        at += size
    return found


class OptionsReceived:
    """What the options of a SYN say (``struct tcp_options_received``)."""

    __slots__ = ("mss_clamp", "rcv_tsecr", "rcv_tsval", "sack_ok", "snd_wscale", "tstamp_ok", "wscale_ok")

    def __init__(self, th: Tcphdr) -> None:
        self.mss_clamp = 0
        self.sack_ok = self.wscale_ok = False
        self.snd_wscale = 0
        self.tstamp_ok = th.saw_tstamp
        self.rcv_tsval, self.rcv_tsecr = th.tsval, th.tsecr
        for kind, body in _each_option(th.options):
            if kind == TCPOPT_MSS and len(body) == 2:
                self.mss_clamp = int.from_bytes(body, "big")
            elif kind == TCPOPT_WINDOW and len(body) == 1:
                self.wscale_ok, self.snd_wscale = True, min(body[0], TCP_MAX_WSCALE)
            elif kind == TCPOPT_SACK_PERM and not body:
                self.sack_ok = True


class SynOptions:
    """What a SYN or SYN-ACK offers: MSS, window scale (None: none), timestamps (None: none), SACK."""

    __slots__ = ("mss", "sack", "tstamp", "wscale")

    def __init__(self, mss: int, *, wscale: int | None, tstamp: tuple[int, int] | None, sack: bool) -> None:
        self.mss, self.wscale, self.tstamp, self.sack = mss, wscale, tstamp, sack


def syn_options(offer: SynOptions) -> bytes:
    """Return the options of a SYN or SYN-ACK."""
    parts = [bytes((TCPOPT_MSS, 4)) + offer.mss.to_bytes(2, "big")]
    if offer.tstamp is not None:
        parts.append(bytes((TCPOPT_SACK_PERM, 2) if offer.sack else (TCPOPT_NOP, TCPOPT_NOP)))
        parts.append(bytes((TCPOPT_TIMESTAMP, 10)) + _PAIR.pack(*offer.tstamp))
    elif offer.sack:
        parts.append(bytes((TCPOPT_NOP, TCPOPT_NOP, TCPOPT_SACK_PERM, 2)))
    if offer.wscale is not None:
        parts.append(bytes((TCPOPT_NOP, TCPOPT_WINDOW, 3, offer.wscale)))
    return b"".join(parts)


def established_options(tstamp: tuple[int, int] | None, sacks: Sequence[tuple[int, int]] = ()) -> bytes:
    """Return the options of other segments: a timestamp and SACK blocks."""
    options = _TS.pack(_TS_HEAD, *tstamp) if tstamp is not None else b""
    if sacks:
        options += bytes((TCPOPT_NOP, TCPOPT_NOP, TCPOPT_SACK, 2 + 8 * len(sacks)))
        options += b"".join([_PAIR.pack(*block) for block in sacks])
    return options


def tcp_bytes(
    saddr: int,
    daddr: int,
    ports: tuple[int, int],
    seq: int,
    ack_seq: int,
    flags: int,
    window: int,
    options: bytes = b"",
    data: bytes | bytearray = b"",
    urg_ptr: int = 0,
) -> bytes:
    """Return a segment with its checksum; ``ports`` are source and destination."""
    doff = TCP_HLEN + len(options)
    off_flags = doff << 10 | flags
    segment = _HDR.pack(*ports, seq, ack_seq, off_flags, window, 0, urg_ptr) + options + data
    total = csum_partial(segment) + csum_tcpudp_nofold(saddr, daddr, len(segment), IpProto.TCP)
    check = csum_fold(total)
    return b"%b%b%b" % (segment[:16], check.to_bytes(2, "big"), segment[18:])


def tcp_partial(
    saddr: int,
    daddr: int,
    ports: tuple[int, int],
    seq: int,
    ack_seq: int,
    flags: int,
    window: int,
    options: bytes,
    data: bytes | bytearray,
) -> bytes:
    """Return several segments as one, its checksum field the sum of the pseudo header (CHECKSUM_PARTIAL)."""
    size = TCP_HLEN + len(options) + len(data)
    check = csum_fold(csum_tcpudp_nofold(saddr, daddr, size, IpProto.TCP)) ^ 0xFFFF
    off_flags = (TCP_HLEN + len(options)) << 10 | flags
    return _HDR.pack(*ports, seq, ack_seq, off_flags, window, check, 0) + options + data
