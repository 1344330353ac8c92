"""What the records of the stack's trace events hold (include/trace/events/{skb,net,napi,fib,neigh,udp,icmp}.h, v6.18).

Everything is read from the structures in RAM, as the kernel's own probes do it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ebpfsim.btf.view import Field, KernelStruct, Text, place

__all__ = ["NET_BUILDERS", "NET_TRACEPOINTS"]

Values = Mapping[str, int | bytes]
AF_INET = 2
NO_HEADER, MAX_ADDR_LEN, IFNAMSIZ, SOCKADDR_BYTES = 0xFFFF, 32, 16, 28
IPPROTO_UDP = 17


class _Skb(KernelStruct):
    struct_name = "sk_buff"
    dev = Field()
    len = Field()
    data_len = Field()
    truesize = Field()
    queue_mapping = Field()
    protocol = Field()
    ip_summed = Field()
    l4_hash = Field()
    hash = Field()
    vlan_all = Field()
    vlan_proto = Field()
    vlan_tci = Field()
    transport_header = Field()
    network_header = Field()
    mac_header = Field()
    napi_id = Field()
    head = Field()
    data = Field()
    end = Field()


class _Shared(KernelStruct):
    struct_name = "skb_shared_info"
    tx_flags = Field()
    nr_frags = Field()
    gso_size = Field()
    gso_segs = Field()
    gso_type = Field()


class _Dev(KernelStruct):
    struct_name = "net_device"
    name = Text()


class _Flow(KernelStruct):
    struct_name = "flowi4"
    oif = Field("__fl_common.flowic_oif")
    iif = Field("__fl_common.flowic_iif")
    tos = Field("__fl_common.flowic_dscp")
    scope = Field("__fl_common.flowic_scope")
    proto = Field("__fl_common.flowic_proto")
    flags = Field("__fl_common.flowic_flags")
    sport = Field("uli.ports.sport")
    dport = Field("uli.ports.dport")


class _Sock(KernelStruct):
    struct_name = "sock"
    family = Field("__sk_common.skc_family")
    protocol = Field("sk_protocol")


class _NextHop(KernelStruct):
    struct_name = "fib_nh_common"
    dev = Field("nhc_dev")
    gw_family = Field("nhc_gw_family")


class _Neigh(KernelStruct):
    struct_name = "neighbour"
    tbl = Field()
    confirmed = Field()
    updated = Field()
    used = Field()
    refcnt = Field("refcnt.refs.counter")
    nud_state = Field()
    type = Field()
    dead = Field()
    flags = Field()
    dev = Field()


def _swap16(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


def _name(k: Any, dev: int) -> bytes:
    return _Dev(k.mem, dev).name.encode() if dev else b""


# ---- packets --------------------------------------------------------------------------------------------------------


def _kfree_skb(k: Any, skb: int, location: int, reason: int, rx_sk: int) -> Values:
    protocol = _swap16(_Skb(k.mem, skb).protocol)
    return {"skbaddr": skb, "location": location, "rx_sk": rx_sk, "protocol": protocol, "reason": reason}


def _consume_skb(_k: Any, skb: int, location: int) -> Values:
    return {"skbaddr": skb, "location": location}


def _net_dev(k: Any, skb: int) -> Values:
    packet = _Skb(k.mem, skb)
    return {"skbaddr": skb, "len": packet.len, "name": _name(k, packet.dev)}


def _net_dev_xmit(k: Any, skb: int, rc: int, dev: int, size: int) -> Values:
    return {"skbaddr": skb, "len": size, "rc": rc, "name": _name(k, dev)}


def _common(k: Any, skb: int) -> tuple[_Skb, _Shared, dict[str, int | bytes]]:
    packet = _Skb(k.mem, skb)
    shared = _Shared(k.mem, packet.head + packet.end)
    return packet, shared, {
        "skbaddr": skb,
        "queue_mapping": packet.queue_mapping,
        "vlan_tagged": bool(packet.vlan_all),
        "vlan_proto": _swap16(packet.vlan_proto),
        "vlan_tci": packet.vlan_tci,
        "protocol": _swap16(packet.protocol),
        "ip_summed": packet.ip_summed,
        "len": packet.len,
        "data_len": packet.data_len,
        "gso_size": shared.gso_size,
        "gso_type": shared.gso_type,
    }  # fmt: skip


def _net_dev_start_xmit(k: Any, skb: int, dev: int) -> Values:
    packet, shared, values = _common(k, skb)
    before = packet.data - packet.head
    valid = packet.transport_header != NO_HEADER
    return {
        **values,
        "name": _name(k, dev),
        "network_offset": packet.network_header - before,
        "transport_offset_valid": valid,
        "transport_offset": packet.transport_header - before if valid else 0,
        "tx_flags": shared.tx_flags,
        "gso_segs": shared.gso_segs,
    }


def _rx_verbose(k: Any, skb: int) -> Values:
    packet, shared, values = _common(k, skb)
    return {
        **values,
        "name": _name(k, packet.dev),
        "napi_id": packet.napi_id,
        "hash": packet.hash,
        "l4_hash": packet.l4_hash,
        "truesize": packet.truesize,
        "mac_header_valid": packet.mac_header != NO_HEADER,
        "mac_header": packet.mac_header - (packet.data - packet.head),
        "nr_frags": shared.nr_frags,
    }


def _rx_exit(_k: Any, ret: int) -> Values:
    return {"ret": ret}


def _napi_poll(k: Any, napi: int, work: int, budget: int) -> Values:
    dev = k.mem.load(napi + place("napi_struct", "dev")[0], 8)
    return {"napi": napi, "dev_name": _name(k, dev) or b"(no_device)", "work": work, "budget": budget}


# ---- routes and neighbours ------------------------------------------------------------------------------------------


def _fib_table_lookup(k: Any, tb_id: int, flow: int, nexthop: int, err: int) -> Values:
    asked, mem = _Flow(k.mem, flow), k.mem
    has_ports = asked.proto in (6, IPPROTO_UDP)
    values: dict[str, int | bytes] = {
        "tb_id": tb_id,
        "err": err,
        "oif": asked.oif,
        "iif": asked.iif,
        "proto": asked.proto,
        "tos": asked.tos,
        "scope": asked.scope,
        "flags": asked.flags,
        "src": bytes(mem.read(asked.member_address("saddr"), 4)),
        "dst": bytes(mem.read(asked.member_address("daddr"), 4)),
        "sport": _swap16(asked.sport) if has_ports else 0,
        "dport": _swap16(asked.dport) if has_ports else 0,
        "gw4": bytes(4),
        "gw6": bytes(16),
        "name": b"-",
    }
    if nexthop:
        hop = _NextHop(mem, nexthop)
        values["name"] = _name(k, hop.dev)
        if hop.gw_family == AF_INET:
            values["gw4"] = bytes(mem.read(hop.member_address("nhc_gw"), 4))
    return values


def _mapped(key: bytes) -> bytes:
    return bytes(10) + b"\xff\xff" + key


def _keys(k: Any, family: int, key: int) -> dict[str, int | bytes]:
    if family == AF_INET:
        address = bytes(k.mem.read(key, 4))
        return {"primary_key4": address, "primary_key6": _mapped(address)}
    return {"primary_key4": bytes(4), "primary_key6": bytes(k.mem.read(key, 16))}


def _family(k: Any, table: int) -> int:
    return int(k.mem.load(table + place("neigh_table", "family")[0], 4))


def _neigh_create(k: Any, table: int, dev: int, pkey: int, neigh: int, exempt: int) -> Values:
    family = _family(k, table)
    entries = k.mem.load(table + place("neigh_table", "gc_entries")[0], 4)
    keys = _keys(k, family, pkey)
    if family == AF_INET:
        keys["primary_key6"] = bytes(16)
    head = {"family": family, "dev": _name(k, dev) or b"NULL", "entries": entries}
    return {**head, "created": bool(neigh), "gc_exempt": exempt, **keys}


def _entry(k: Any, neigh: int) -> dict[str, int | bytes]:
    entry = _Neigh(k.mem, neigh)
    family = _family(k, entry.tbl)
    return {
        "family": family,
        "dev": _name(k, entry.dev) or b"NULL",
        "lladdr": bytes(k.mem.read(entry.member_address("ha"), 6)).ljust(MAX_ADDR_LEN, b"\0"),
        "lladdr_len": 6,
        "flags": entry.flags,
        "nud_state": entry.nud_state,
        "type": entry.type,
        "dead": entry.dead,
        "refcnt": entry.refcnt,
        **_keys(k, family, entry.member_address("primary_key")),
        "confirmed": entry.confirmed,
        "updated": entry.updated,
        "used": entry.used,
    }


def _neigh_update(k: Any, neigh: int, lladdr: int, new: int, flags: int, pid: int) -> Values:
    mac = bytes(k.mem.read(lladdr, 6)) if lladdr else b""
    new_values: dict[str, int | bytes] = {
        "new_lladdr": mac.ljust(MAX_ADDR_LEN, b"\0"),
        "new_state": new,
        "update_flags": flags,
        "pid": pid,
    }
    return {**_entry(k, neigh), **new_values}


def _neigh_done(k: Any, neigh: int, err: int) -> Values:
    return {**_entry(k, neigh), "err": err}


# ---- protocols ------------------------------------------------------------------------------------------------------


def _ports(k: Any, skb: int) -> tuple[bytes, bytes, int, int]:
    packet, mem = _Skb(k.mem, skb), k.mem
    ip, udp = packet.head + packet.network_header, packet.head + packet.transport_header
    ends = bytes(mem.read(ip + 12, 8))
    ports = bytes(mem.read(udp, 4))
    return ends[:4], ends[4:], int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")


def _sockaddr(address: bytes, port: int) -> bytes:
    return (AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + address).ljust(SOCKADDR_BYTES, b"\0")


def _udp_fail_queue_rcv_skb(k: Any, rc: int, sk: int, skb: int) -> Values:
    saddr, daddr, sport, dport = _ports(k, skb)
    family = k.mem.load(sk + place("sock", "__sk_common.skc_family")[0], 2)
    ends = {"saddr": _sockaddr(saddr, sport), "daddr": _sockaddr(daddr, dport)}
    return {"rc": rc, "sport": sport, "dport": dport, "family": family, **ends}


def _icmp_send(k: Any, skb: int, kind: int, code: int) -> Values:
    packet, mem = _Skb(k.mem, skb), k.mem
    ip = packet.head + packet.network_header
    values: dict[str, int | bytes] = {"skbaddr": skb, "type": kind, "code": code}
    values |= {"saddr": bytes(mem.read(ip + 12, 4)), "daddr": bytes(mem.read(ip + 16, 4))}
    is_udp = mem.load(ip + 9, 1) == IPPROTO_UDP
    udp = packet.head + packet.transport_header
    numbers = bytes(mem.read(udp, 6)) if is_udp and packet.transport_header != NO_HEADER else bytes(6)
    for at, name in enumerate(("sport", "dport", "ulen")):
        values[name] = int.from_bytes(numbers[2 * at : 2 * at + 2], "big")
    return values


def _sock_length(k: Any, sk: int, ret: int, flags: int) -> Values:
    sock = _Sock(k.mem, sk)
    return {"sk": sk, "family": sock.family, "protocol": sock.protocol, "ret": ret, "flags": flags}


def _skb_copy_datagram_iovec(_k: Any, skb: int, length: int) -> Values:
    return {"skbaddr": skb, "len": length}


NET_BUILDERS: Mapping[str, Callable[..., Values]] = {
    "skb:kfree_skb": _kfree_skb,
    "skb:consume_skb": _consume_skb,
    "net:net_dev_queue": _net_dev,
    "net:netif_receive_skb": _net_dev,
    "net:netif_rx": _net_dev,
    "net:net_dev_start_xmit": _net_dev_start_xmit,
    "net:net_dev_xmit": _net_dev_xmit,
    "net:netif_rx_entry": _rx_verbose,
    "net:netif_receive_skb_entry": _rx_verbose,
    "net:napi_gro_receive_entry": _rx_verbose,
    "net:netif_rx_exit": _rx_exit,
    "net:netif_receive_skb_exit": _rx_exit,
    "net:napi_gro_receive_exit": _rx_exit,
    "napi:napi_poll": _napi_poll,
    "fib:fib_table_lookup": _fib_table_lookup,
    "neigh:neigh_create": _neigh_create,
    "neigh:neigh_update": _neigh_update,
    "neigh:neigh_update_done": _neigh_done,
    "neigh:neigh_timer_handler": _neigh_done,
    "neigh:neigh_event_send_done": _neigh_done,
    "udp:udp_fail_queue_rcv_skb": _udp_fail_queue_rcv_skb,
    "icmp:icmp_send": _icmp_send,
    "sock:sock_send_length": _sock_length,
    "sock:sock_recv_length": _sock_length,
    "skb:skb_copy_datagram_iovec": _skb_copy_datagram_iovec,
}
NET_TRACEPOINTS = tuple(name.partition(":")[2] for name in NET_BUILDERS)
