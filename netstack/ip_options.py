"""IPv4 options (net/ipv4/ip_options.c, v6.18; RFC 791, RFC 1122): which are wrong, what forwarding and answers write.

Modelled are record route, timestamps, source routes (where accept_source_route allows them), router alert and what is
only copied. Answers to packets with a source route do not go back by it.
"""

from typing import TYPE_CHECKING

from ebpfsim.cpu import Cpu
from netstack.checksum import ip_compute_csum
from netstack.drop_reasons import SkbDropReason
from netstack.headers import IP_HLEN, IpHdr
from netstack.skb import SkBuff

if TYPE_CHECKING:
    from netstack.fib import Route
    from netstack.net import Net

__all__ = [
    "IPOPT_LSRR",
    "IPOPT_SSRR",
    "PARAMETERPROB",
    "bad_option",
    "echoed_options",
    "forwarded_options",
    "fragment_options",
    "source_route",
]

# include/uapi/linux/ip.h
IPOPT_END, IPOPT_NOOP, IPOPT_RR, IPOPT_TIMESTAMP = 0, 1, 7, 68
IPOPT_LSRR, IPOPT_SSRR, IPOPT_RA, IPOPT_CIPSO, IPOPT_SID = 131, 137, 148, 134, 136
IPOPT_COPY = 0x80
IPOPT_TS_TSONLY, IPOPT_TS_TSANDADDR, IPOPT_TS_PRESPEC = 0, 1, 3
IPOPT_MINOFF = 4
PARAMETERPROB = 12
DAY_MS = 24 * 3600 * 1000


def options_of(header: bytes) -> list[tuple[int, int, int]]:
    """Return kind, offset and length of the options in a header, up to one that cannot be."""
    found, off = [], IP_HLEN
    while off < len(header):
        kind = header[off]
        if kind == IPOPT_END:
            break
        size = 1 if kind == IPOPT_NOOP else int.from_bytes(header[off + 1 : off + 2], "big")
        if off + size > len(header) or (size < 2 and kind != IPOPT_NOOP):
            break
        found.append((kind, off, size))
        off += size
    return found


def bad_option(skb: SkBuff, ip: IpHdr, cpu: Cpu) -> bool:
    """Look at a packet's options (``ip_rcv_options``): True when it was dropped."""
    net, off = skb.dev.net, skb.network_header
    header = skb.data[off : off + ip.ihl * 4]
    pointer = _check(header)
    if pointer is not None:
        net.snmp.inc("IpInHdrErrors")
        net.functions.__dict__["__icmp_send"](cpu, skb, PARAMETERPROB, 0, pointer << 24, 0)
        skb.drop(SkbDropReason.IP_INHDR, f"IP option at byte {pointer}", cpu, "ip_rcv")
        return True
    if source_route(header) is not None and not net.conf(skb.dev).accept_source_route:
        skb.drop(SkbDropReason.NOT_SPECIFIED, "source route", cpu, "ip_rcv")
        return True
    return False


def source_route(header: bytes) -> tuple[int, int, int, int] | None:
    """Return kind, offset, pointer and length of a header's source route, None when it has none."""
    for kind, off, size in options_of(header):
        if kind in (IPOPT_LSRR, IPOPT_SSRR) and size >= 3:
            return kind, off, header[off + 2], size
    return None


def _check(header: bytes) -> int | None:
    # __ip_options_compile(): the byte that is wrong, None when all are right
    off, seen = IP_HLEN, set[int]()
    while off < len(header):
        kind = header[off]
        if kind == IPOPT_END:
            return None
        if kind == IPOPT_NOOP:
            off += 1
            continue
        left = len(header) - off
        size = header[off + 1] if left >= 2 else 0
        if size < 2 or size > left:
            return off
        wrong = _check_option(kind, header[off : off + size], seen)
        if wrong is not None:
            return off + wrong
        off += size
    return None


def _check_option(kind: int, option: bytes, seen: set[int]) -> int | None:
    size = len(option)
    if kind in (IPOPT_RR, IPOPT_TIMESTAMP, IPOPT_LSRR, IPOPT_SSRR):
        if size < (4 if kind == IPOPT_TIMESTAMP else 3):
            return 1
        family = IPOPT_LSRR if kind == IPOPT_SSRR else kind
        if option[2] < (5 if kind == IPOPT_TIMESTAMP else IPOPT_MINOFF):
            return 2
        if family in seen:
            return 0
        seen.add(family)
        if kind == IPOPT_TIMESTAMP:
            return _check_timestamp(option)
        # a full list of addresses is no error
        return 2 if option[2] <= size and option[2] + 3 > size else None
    if kind == IPOPT_RA and size < 4:
        return 1
    return None


def _check_timestamp(option: bytes) -> int | None:
    pointer, size, flag = option[2], len(option), option[3] & 15
    if pointer > size:
        # the overflow counter goes up; at 15 it is an error
        return 3 if option[3] >> 4 == 15 else None
    needed = 3 if flag == IPOPT_TS_TSONLY else 7
    return 2 if pointer + needed > size else None


def forwarded_options(packet: bytes, route: "Route", net: "Net", source_hop: int = 0) -> bytes:
    """Return a packet with what a router adds to its options (``ip_forward_options``).

    With a source route that leads through here it is sent to ``source_hop`` next.
    """
    hlen = (packet[0] & 15) * 4
    header = bytearray(packet[:hlen])
    address = (route.prefsrc or net.select_addr(route.dev, route.gateway)).to_bytes(4, "big")
    for kind, off, size in options_of(bytes(header)):
        if kind == IPOPT_RR and header[off + 2] <= size:
            _write(header, off, address)
        elif kind == IPOPT_TIMESTAMP:
            _stamp(header, off, size, address, net)
        elif kind in (IPOPT_LSRR, IPOPT_SSRR) and source_hop and header[off + 2] + 3 <= size:
            header[16:20] = source_hop.to_bytes(4, "big")
            _write(header, off, address)
    header[10:12] = b"\0\0"
    header[10:12] = ip_compute_csum(header).to_bytes(2, "big")
    return bytes(header) + packet[hlen:]


def _write(header: bytearray, off: int, value: bytes) -> None:
    place = off + header[off + 2] - 1
    header[place : place + len(value)] = value
    header[off + 2] += len(value)


def _stamp(header: bytearray, off: int, size: int, address: bytes, net: "Net") -> None:
    if header[off + 2] > size:
        header[off + 3] += 0x10
        return
    flag = header[off + 3] & 15
    now = (net.clock.now_ns // 1_000_000 % DAY_MS).to_bytes(4, "big")
    if flag == IPOPT_TS_TSANDADDR:
        _write(header, off, address)
    elif flag == IPOPT_TS_PRESPEC:
        place = off + header[off + 2] - 1
        if not net.fib.is_local(int.from_bytes(header[place : place + 4], "big")):
            return
        header[off + 2] += 4
    _write(header, off, now)


def echoed_options(header: bytes, net: "Net | None" = None, address: int = 0) -> bytes:
    """Return the options of an answer to a packet (``__ip_options_echo``): its record route and timestamps go on.

    Its ``address`` is written where the packet came in and where the answer goes out.
    """
    kept = bytearray()
    for kind, off, size in options_of(header):
        if kind not in (IPOPT_RR, IPOPT_TIMESTAMP):
            continue
        option = bytearray(header[off : off + size])
        for _ in range(2 if net is not None else 0):
            if kind == IPOPT_RR and option[2] + 3 <= size:
                _write(option, 0, address.to_bytes(4, "big"))
            elif kind == IPOPT_TIMESTAMP and net is not None and option[2] + 3 <= size:
                _stamp(option, 0, size, address.to_bytes(4, "big"), net)
        kept += option
    return bytes(kept) + bytes(-len(kept) % 4)


def fragment_options(header: bytes) -> bytes:
    """Return the header of all fragments but the first: options that are not copied become no-ops."""
    packed = bytearray(header)
    for kind, off, size in options_of(header):
        if kind != IPOPT_NOOP and not kind & IPOPT_COPY:
            packed[off : off + size] = bytes([IPOPT_NOOP]) * size
    return bytes(packed)
