"""What the records of TCP's and sockets' trace events hold (include/trace/events/{sock,tcp}.h, v6.18).

Everything is read from the structures in RAM, as the kernel's own probes do it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ebpfsim.btf.view import place
from tracing.trace_events import find_event

__all__ = ["TCP_BUILDERS"]

Values = Mapping[str, int | bytes]
AF_INET, AF_INET6 = 2, 10
_COMMON = "__sk_common."
_INET = "inet_conn.icsk_inet."
SOCKADDR_BYTES = 28  # sizeof(struct sockaddr_in6)


def _load(k: Any, base: int, struct: str, path: str) -> int:
    offset, size = place(struct, path)
    return int(k.mem.load(base + offset, size))


def _swap16(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


def _ends(k: Any, sk: int) -> dict[str, int | bytes]:
    mem = k.mem
    saddr = bytes(mem.read(sk + place("sock", _COMMON + "skc_rcv_saddr")[0], 4))
    daddr = bytes(mem.read(sk + place("sock", _COMMON + "skc_daddr")[0], 4))
    return {
        "skaddr": sk,
        "sport": _swap16(_load(k, sk, "tcp_sock", _INET + "inet_sport")),
        "dport": _swap16(_load(k, sk, "sock", _COMMON + "skc_dport")),
        "family": _load(k, sk, "sock", _COMMON + "skc_family"),
        "protocol": _load(k, sk, "sock", "sk_protocol"),
        "saddr": saddr,
        "daddr": daddr,
        **_ends6(k, sk, saddr, daddr),
        "sock_cookie": _load(k, sk, "sock", _COMMON + "skc_cookie.counter"),
    }


def _ends6(k: Any, common: int, saddr: bytes, daddr: bytes) -> dict[str, int | bytes]:
    # addresses of IPv6 in a ``struct sock_common``; those of IPv4 are mapped (TP_STORE_V4MAPPED)
    mapped = bytes(10) + b"\xff\xff"
    if _load(k, common, "sock_common", "skc_family") != AF_INET6:
        return {"saddr_v6": mapped + saddr, "daddr_v6": mapped + daddr}
    names = {"saddr_v6": "skc_v6_rcv_saddr", "daddr_v6": "skc_v6_daddr"}
    return {key: bytes(k.mem.read(common + place("sock_common", name)[0], 16)) for key, name in names.items()}


def _sockaddr(address: bytes, port: int) -> bytes:
    return (AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + address).ljust(SOCKADDR_BYTES, b"\0")


def _sockaddrs(k: Any, sk: int) -> dict[str, int | bytes]:
    ends = _ends(k, sk)
    saddr, daddr, sport, dport = ends["saddr"], ends["daddr"], ends["sport"], ends["dport"]
    assert isinstance(saddr, bytes)
    assert isinstance(daddr, bytes)
    return {**ends, "saddr": _sockaddr(saddr, int(sport)), "daddr": _sockaddr(daddr, int(dport))}


def _skb_ends(k: Any, skb: int) -> tuple[bytes, bytes]:
    # the ends of a packet, whose data begins with its TCP header
    head, network = _load(k, skb, "sk_buff", "head"), _load(k, skb, "sk_buff", "network_header")
    data, mem = _load(k, skb, "sk_buff", "data"), k.mem
    addresses, ports = bytes(mem.read(head + network + 12, 8)), bytes(mem.read(data, 4))
    source = _sockaddr(addresses[:4], int.from_bytes(ports[:2], "big"))
    return source, _sockaddr(addresses[4:], int.from_bytes(ports[2:], "big"))


def _inet_sock_set_state(k: Any, sk: int, oldstate: int, newstate: int) -> Values:
    return {**_ends(k, sk), "oldstate": oldstate, "newstate": newstate}


def _sk_data_ready(k: Any, sk: int) -> Values:
    return {**_ends(k, sk), "ip": 0}


def _tcp_sk(k: Any, sk: int) -> Values:
    return _ends(k, sk)


def _tcp_retransmit_skb(k: Any, sk: int, skb: int, err: int = 0) -> Values:
    return {**_ends(k, sk), "skbaddr": skb, "state": _load(k, sk, "sock", _COMMON + "skc_state"), "err": err}


def _tcp_retransmit_synack(k: Any, sk: int, req: int) -> Values:
    path = "__req_common."
    saddr = bytes(k.mem.read(req + place("request_sock", path + "skc_rcv_saddr")[0], 4))
    daddr = bytes(k.mem.read(req + place("request_sock", path + "skc_daddr")[0], 4))
    return {
        **_ends(k, sk),
        "req": req,
        "sport": _load(k, req, "request_sock", path + "skc_num"),
        "dport": _swap16(_load(k, req, "request_sock", path + "skc_dport")),
        "saddr": saddr,
        "daddr": daddr,
        **_ends6(k, req, saddr, daddr),
    }


def _tcp_send_reset(k: Any, sk: int, skb: int, reason: int) -> Values:
    values: dict[str, int | bytes] = {"skbaddr": skb, "skaddr": sk, "state": 0, "reason": reason}
    if sk:
        return {**_sockaddrs(k, sk), **values, "state": _load(k, sk, "sock", _COMMON + "skc_state")}
    # the packet's ends, the other way round
    source, target = _skb_ends(k, skb)
    return {**values, "saddr": target, "daddr": source}


def _tcp_bad_csum(k: Any, skb: int) -> Values:
    source, target = _skb_ends(k, skb)
    return {"skbaddr": skb, "saddr": source, "daddr": target}


def _tcp_cong_state_set(k: Any, sk: int, ca_state: int) -> Values:
    return {**_ends(k, sk), "cong_state": ca_state}


def _tcp_probe(k: Any, sk: int, skb: int) -> Values:
    data = _load(k, skb, "sk_buff", "data")
    header = k.mem.read(data + 12, 1)[0] >> 4 << 2
    numbers = {
        name: _load(k, sk, "tcp_sock", name) for name in ("snd_nxt", "snd_una", "snd_cwnd", "snd_wnd", "rcv_wnd")
    }
    cwnd, ssthresh = numbers["snd_cwnd"], _load(k, sk, "tcp_sock", "snd_ssthresh")
    # tcp_current_ssthresh(); icsk_ca_state is a bit field in front of icsk_retransmits
    ca_state = k.mem.load(sk + place("tcp_sock", "inet_conn.icsk_retransmits")[0] - 1, 1) & 0x1F
    current = ssthresh if ca_state in (2, 3) else max(ssthresh, (cwnd >> 1) + (cwnd >> 2))
    return {
        **_sockaddrs(k, sk),
        **numbers,
        "mark": _load(k, skb, "sk_buff", "mark"),
        "data_len": _load(k, skb, "sk_buff", "len") - header,
        "ssthresh": current,
        "srtt": _load(k, sk, "tcp_sock", "srtt_us") >> 3,
        "skbaddr": skb,
        "skaddr": sk,
    }


def _only(name: str, build: Callable[..., Values]) -> Callable[..., Values]:
    # what the record has no place for is left out
    def fill(k: Any, *args: int) -> Values:
        members = {member.name for member in find_event(name).members}
        return {key: value for key, value in build(k, *args).items() if key in members}

    return fill


_BUILDERS: Mapping[str, Callable[..., Values]] = {
    "sock:inet_sock_set_state": _inet_sock_set_state,
    "sock:sk_data_ready": _sk_data_ready,
    "tcp:tcp_bad_csum": _tcp_bad_csum,
    "tcp:tcp_cong_state_set": _tcp_cong_state_set,
    "tcp:tcp_destroy_sock": _tcp_sk,
    "tcp:tcp_probe": _tcp_probe,
    "tcp:tcp_rcv_space_adjust": _tcp_sk,
    "tcp:tcp_receive_reset": _tcp_sk,
    "tcp:tcp_retransmit_skb": _tcp_retransmit_skb,
    "tcp:tcp_retransmit_synack": _tcp_retransmit_synack,
    "tcp:tcp_send_reset": _tcp_send_reset,
}
TCP_BUILDERS: Mapping[str, Callable[..., Values]] = {name: _only(name, build) for name, build in _BUILDERS.items()}
