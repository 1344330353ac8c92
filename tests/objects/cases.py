"""What is run: for each source, the frames, what its maps hold at first, and the compilers and CPUs it is built for."""

import struct
from dataclasses import dataclass, field

from packets import COMMON

__all__ = ["CASES", "REFUSED", "Case"]

CPUS = ("v1", "v2", "v3", "v4")
TWO_CPUS = ("v2", "v4")  # enough where the kind of code has been seen before


@dataclass(frozen=True)
class Case:
    """One object. ``entry`` is the program that gets the frames; ``maps`` holds map name -> {key: value} in bytes."""

    name: str
    frames: list[str]
    maps: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    cpus: tuple[str, ...] = CPUS
    compiler: str = "clang"
    unset: tuple[str, ...] = ()  # maps whose contents depend on time or chance
    tag: bool = True  # programs that call functions of the kernel have other tags on another build of it

    @property
    def entry(self) -> str:
        """The program that gets the frames has the name of the file."""
        return self.name


def _ip(text: str) -> bytes:
    return bytes(map(int, text.split(".")))


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)


def _rule(net: str, bits: int, proto: int, low: int, high: int, action: int) -> bytes:
    return struct.pack("<4sBBHHHI", _ip(net), bits, proto, low, high, action, 0)


def _needle(text: bytes) -> bytes:
    return struct.pack("<8s8sQ", text, b"\xff" * len(text), 0)


def _real(addr: str, port: int, last_mac_byte: int) -> bytes:
    return _ip(addr) + struct.pack(">H", port) + bytes([2, 0, 0, 0, 0, last_mac_byte]) + bytes(12)


def _backend(number: int, weight: int) -> bytes:
    return _ip(f"10.1.0.{number}") + bytes([2, 0, 0, 0, 1, number]) + struct.pack("<H", weight)


# what user space has put into the maps before the first frame
_VIPS = {
    _ip("10.0.0.2") + b"\0\x35\x11\0": _real("192.168.7.9", 5353, 9),
    _ip("10.0.0.2") + b"\0\x16\x06\0": _real("192.168.7.8", 80, 8),
}
_TUNNEL = {_u32(0): _ip("192.0.2.1") + _ip("192.0.2.2") + bytes.fromhex("020000000a0b 020000000c0d")}
_RULES = {
    _u32(0): _rule("10.0.0.66", 32, 0, 0, 65535, 1),
    _u32(2): _rule("10.0.0.0", 24, 17, 1, 1023, 3),
    _u32(3): _rule("10.0.0.0", 8, 6, 0, 65535, 2),
    _u32(7): _rule("0.0.0.0", 0, 0, 5000, 6000, 2),
}
_RING = {_u32(slot): _u32(slot % 3) for slot in range(16)}
_BACKENDS = {_u32(number): _backend(number, 5 if number < 2 else 0) for number in range(4)}
_NEEDLES = {_u32(0): _needle(b"needle"), _u32(1): _needle(b"abc"), _u32(2): _needle(b"GET ")}
_QUOTA = {_ip("10.0.0.66"): struct.pack("<q", 1)}
_OWNED = {_ip("10.0.0.2"): bytes.fromhex("02000000bb02")}
_ODD_HEADERS = ["ipv6_tcp", "ipv6_ping", "ip_options", "ip_bad_ihl", "eth_15", "vlan_cut"]
_KNOCKS = ["tcp_syn", "knock_7000", "knock_8000", "tcp_syn", "knock_7000", "knock_8000", "knock_9000"]
_SUMS = ["sum_1", "sum_2", "sum_3", "sum_4", "sum_zero", "sum_min", "sum_max"]

# fmt: off
CASES = [
    Case("parse_basic", [*COMMON, "tcp_rst", "tcp_ack", "eth_15", "ip_unknown", "ip_options"]),
    Case("vlan_unroll", ["udp", "vlan", "vlan_double", "vlan_five", "vlan_cut", "eth_only"], compiler="zig"),
    Case("header_cursor", [*COMMON, "vlan_double", *_ODD_HEADERS]),
    Case("ipv6_ext", ["udp", "ipv6_udp", "ipv6_ext", "ipv6_fragment", "ipv6_ext_many", "ipv6_ext_cut", "ipv6_ext"]),
    Case("ip_options", ["udp", "ip_options", "ip_router_alert", "ip_bad_ihl", "arp_request"]),
    Case("tcp_mss", ["udp", "tcp_syn", "tcp_ack", "tcp_mss_1460", "tcp_mss_1300", "tcp_no_mss", "tcp_bad_option"]),
    Case("echo_swap", [*COMMON, "udp_odd", "ip_options"], compiler="zig"),
    Case("ttl_forward", [*COMMON, "ip_ttl_1", "ipv6_hop_1", "ipv6_tcp"]),
    Case("icmp_reply", [*COMMON, "icmp_other"]),
    Case("dnat", [*COMMON, "udp_no_checksum", "udp_dns_port"], {"vips": _VIPS}),
    Case("ip_csum_check", [*COMMON, "ip_bad_checksum", "ip_options", "ip_router_alert", "ip_bad_ihl"]),
    Case("udp_csum_loop", ["udp", "udp_odd", "udp_no_checksum", "udp_dns_port", "udp_other", "tcp_syn", "eth_15"]),
    Case("ipip_encap", ["udp", "icmp_echo", "arp_request", "udp_other"], {"tunnels": _TUNNEL}),
    Case("decap", ["udp", "ipip", "gre", "gre_key", "arp_request"], compiler="zig"),
    Case("vlan_push_pop", ["udp", "vlan", "vlan_double", "vlan_five", "eth_only"]),
    Case("truncate_tail", ["udp", "udp_other", "udp_odd", "zeroes_60", "zeroes_64", "ones_61", "payload_9000"]),
    Case("metadata", ["udp", "arp_request", "udp_other"]),
    Case("percpu_counters", [*COMMON, "multicast", "multicast", "arp_other"]),
    Case("lru_flows", ["udp", "udp", "tcp_syn", "tcp_ack", "tcp_rst", "icmp_echo", "icmp_echo", "tcp_fin", "tcp_ack"]),
    Case("update_flags", ["udp"]),
    Case("histogram", [*COMMON, "udp_other", "payload_9000"]),
    Case("ringbuf_events", [*COMMON, "udp"], compiler="zig"),
    Case("ringbuf_copy", ["udp", "udp_other", "eth_only"]),
    Case("tail_chain", ["udp", "tcp_syn", "icmp_echo", "arp_request"]),
    Case("tail_limits", ["udp_odd", "zeroes_64", "udp_other", "payload_9000"]),
    Case("static_subprogs", [*COMMON, "ip_dscp_10", "eth_15"]),
    Case("global_funcs", [*COMMON, "payload_9000"]),
    Case("global_data", [*COMMON, "payload_9000"]),
    Case("rodata_config", [*COMMON, "udp_long", "payload_9000"]),
    Case("big_switch", [*COMMON, "ip_dscp_10", "ip_dscp_odd"]),
    Case("payload_loop", ["udp", "text", "zeroes_60", "ones_61", "eth_only"]),
    Case("jhash", [*COMMON, "ip_dscp_10"], compiler="zig"),
    Case("loop_helper", ["udp", "del_byte", "udp_long"]),
    Case("loop_never", ["udp"]),
    Case("atomics", ["udp", "udp_other"], cpus=("v3", "v4")),
    Case("arith64", _SUMS),
    Case("signed_div", _SUMS, cpus=("v4",)),
    Case("byteswap", ["udp", "sum_1", "sum_max", "ones_61"]),
    Case("struct_copies", ["udp", "same_macs", "arp_request", "udp"]),
    Case("load_store_bytes", ["udp", "tcp_syn", "eth_15"]),
    Case("printk", ["udp"]),
    Case("random_sampling", ["udp", "udp", "udp"]),
    Case("spin_lock", ["udp", "udp_other", "udp"]),
    Case(
        "trees",
        ["udp", "udp_other", "ip_dscp_10", "ones_61", "sum_1", "udp"],
        cpus=TWO_CPUS,
        unset=("slots", ".data.A"),
        tag=False,
    ),
    Case("strings", ["udp", "udp_other", "ones_61", "zeroes_60", "sum_1"], cpus=TWO_CPUS, tag=False),
    Case("for_each", ["udp", "udp_other", "udp"]),
    Case("siphash", [*COMMON, "ip_dscp_10", "multicast"]),
    Case("bitfields", ["udp", "sum_1", "ones_61", "sum_2", "zeroes_60"]),
    Case("crc32", ["udp", "ones_61", "zeroes_60", "eth_15"]),
    Case("quota", ["udp", "udp", "udp", "udp_other", "udp_other", "ip_dscp_10"], {"left": _QUOTA}),
    Case("dns_query", ["udp_dns_port", "dns_blocked", "dns_fine", "dns_long", "dns_cut", "dns_blocked"],
         {"blocked": {b".ads.ex.com".ljust(16, b"\0"): _u32(0)}}),
    Case("http_method", ["udp", "http_get", "http_post", "http_none", "http_get", "tcp_syn"]),
    Case("acl", [*COMMON, "ip_dscp_10"], {"rules": _RULES}),
    Case("stack_index", ["udp", "udp_other", "sum_1", "eth_15"]),
    Case("stack_window", ["udp", "arp_request", "ones_61", "sum_2", "eth_15"]),
    Case("spills", [*COMMON, "udp_other"]),
    Case("redirects", ["udp"]),
    Case("arp_reply", ["udp", "arp_request", "arp_other", "arp_answer"], {"owned": _OWNED}),
    Case("icmp6_echo", ["udp", "ipv6_ping", "ipv6_tcp"]),
    Case("balancer", [*COMMON, "ip_dscp_10", "udp_other"], {"ring": _RING, "backends": _BACKENDS}),
    Case("legacy_style", [*COMMON, "eth_15"], compiler="zig"),
    Case("port_knock", [*_KNOCKS, "tcp_syn", "http_get"]),
    Case("headroom", ["udp", "udp_other"]),
    Case("nested_calls", ["udp", "udp_other"]),
    Case("ctx_fields", ["udp"]),
    Case("token_words", ["udp", "text"], {"needles": _NEEDLES}),
    Case("syn_cookie", ["udp", "tcp_syn", "tcp_mss_1460", "tcp_ack", "tcp_fin", "tcp_bad_option"], cpus=TWO_CPUS),
    Case("mpls_labels", ["mpls", "mpls_two", "mpls_endless", "udp", "eth_only"], cpus=TWO_CPUS),
    Case("snat", [*COMMON, "udp", "udp_no_checksum", "udp_odd", "tcp_rst"], cpus=TWO_CPUS, compiler="zig"),
    Case("port_unreachable", ["udp", "udp_other", "udp_odd", "tcp_syn", "eth_15", "frame_4000"], cpus=TWO_CPUS),
    Case("packet_limits", ["udp"] * 8 + ["frame_4000"] * 8, cpus=TWO_CPUS),
    Case("fragments", ["udp", "udp_long", "frame_4000", "frame_9000", "eth_15"], cpus=TWO_CPUS),
    Case("hash_full", ["udp"] * 6, cpus=TWO_CPUS),
    Case("wide_multiply", [*_SUMS, "ones_61", "udp_other"], cpus=TWO_CPUS, compiler="zig"),
    Case("count_min", [*COMMON, "udp", "udp", "ip_dscp_10", "udp_other"], cpus=TWO_CPUS),
    Case("stage_scratch", [*COMMON, "vlan_double", "vlan_five", "vlan_cut"], cpus=TWO_CPUS),
]
# fmt: on

REFUSED = ["refused", "refused_locks", "no_licence"]
