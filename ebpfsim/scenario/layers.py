"""The layers that packet strings and matches may name: scapy's names and fields, each imported when it is used."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from ipaddress import IPv4Address, IPv6Address, ip_network
from socket import inet_pton
from typing import Any

from ebpfsim.scenario.source import listed, shown
from ebpfsim.suggest import did_you_mean

__all__ = ["LAYERS", "PacketProblem", "check_value", "field_of", "layer_class", "without_lookups"]

# scapy's module -> the layers taken from it. Left out: layers that read clocks, keys or this machine's network.
_MODULES = {
    "scapy.packet": "Raw Padding",
    "scapy.layers.l2": "Ether Dot1Q Dot1AD Dot3 LLC SNAP STP ARP GRE",
    "scapy.layers.inet": "IP TCP UDP ICMP IPOption_NOP IPOption_EOL IPOption_RR IPOption_Router_Alert "
    "IPOption_LSRR IPOption_SSRR IPOption_Timestamp",
    "scapy.layers.inet6": (
        "IPv6 IPv6ExtHdrFragment IPv6ExtHdrHopByHop IPv6ExtHdrDestOpt IPv6ExtHdrRouting IPv6ExtHdrSegmentRouting "
        "ICMPv6EchoRequest ICMPv6EchoReply ICMPv6DestUnreach ICMPv6PacketTooBig ICMPv6TimeExceeded ICMPv6ParamProblem "
        "ICMPv6ND_NS ICMPv6ND_NA ICMPv6ND_RS ICMPv6ND_RA ICMPv6ND_Redirect ICMPv6NDOptSrcLLAddr ICMPv6NDOptDstLLAddr "
        "ICMPv6NDOptPrefixInfo ICMPv6NDOptMTU ICMPv6NDOptRedirectedHdr ICMPv6NDOptRDNSS ICMPv6MLQuery ICMPv6MLReport "
        "ICMPv6MLDone ICMPv6MLQuery2 ICMPv6MLReport2 ICMPv6MLDMultAddrRec Pad1 PadN RouterAlert Jumbo HBHOptUnknown"
    ),
    "scapy.layers.dns": "DNS DNSQR DNSRR",
    "scapy.layers.vxlan": "VXLAN",
    "scapy.layers.sctp": "SCTP SCTPChunkInit SCTPChunkData",
    "scapy.layers.dhcp": "BOOTP DHCP",
    "scapy.contrib.mpls": "MPLS",
    "scapy.contrib.geneve": "GENEVE",
    "scapy.contrib.gtp": "GTPHeader GTP_U_Header",
}
LAYERS = {layer: module for module, names in _MODULES.items() for layer in names.split()}

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
# fields whose names scapy looks up in this machine's /etc/services, /etc/protocols and /etc/ethertypes
_MACHINE_NAMED = ("sport", "dport", "proto", "nh", "Ether.type", "Dot1Q.type", "Dot1AD.type", "SNAP.code")
# how many packets a network such as 10.0.0.0/24 in a field may stand for
MAX_EXPANSION = 10_000


class PacketProblem(Exception):
    """Something is wrong with a layer, field or value; the caller knows where it stands."""

    def __init__(self, problem: str, hint: str = "") -> None:
        self.problem, self.hint = problem, hint
        super().__init__(problem, hint)


@cache
def layer_class(name: str) -> Any:
    """Return scapy's class for a layer's name; PacketProblem when it is not on the list."""
    module = LAYERS.get(name)
    if module is None:
        raise PacketProblem(f"unknown layer {shown(name)}{did_you_mean(name, LAYERS)}")
    return getattr(import_module(module), name)


def field_of(layer: str, name: str) -> Any:
    """Return scapy's field of a layer; PacketProblem when there is none."""
    fields = {field.name: field for field in layer_class(layer).fields_desc}
    if name not in fields:
        raise PacketProblem(
            f"{layer} has no field {shown(name)}{did_you_mean(name, fields)}", f"one of {listed(fields)}"
        )
    from scapy.fields import ConditionalField, Emph, MayEnd, MultipleTypeField

    field: Any = fields[name]
    while isinstance(field, ConditionalField | Emph | MayEnd):
        field = field.fld
    if isinstance(field, MultipleTypeField) and layer == "ARP":
        # the first kind of ARP's addresses is that of Ethernet and IPv4
        field = field.flds[0][0]
    return field


@contextmanager
def without_lookups() -> Iterator[None]:
    """Keep scapy from asking name servers for what it takes for host names."""
    from scapy.base_classes import Net

    original = vars(Net)["name2addr"]

    def numeric(cls: Any, name: str) -> str:
        inet_pton(cls.family, name)  # OSError for a name
        return name

    Net.name2addr = classmethod(numeric)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Net.name2addr = original  # type: ignore[method-assign]


def check_value(layer: str, name: str, value: Any) -> Any:
    """Return the value as scapy takes it; PacketProblem when the field cannot hold it.

    A list, a tuple ``(low, high)`` of numbers or a network stand for several packets, as in scapy.
    """
    field = field_of(layer, name)
    if value is None or hasattr(value, "layers") or hasattr(field, "flds"):
        return value
    if getattr(field, "islist", False):
        _check_several(layer, name, field, value)
        return value
    if isinstance(value, list):
        return [check_value(layer, name, item) for item in value]
    if isinstance(value, tuple):
        if len(value) != 2 or not all(isinstance(item, int) for item in value) or value[0] > value[1]:
            raise PacketProblem(f"field '{name}' of {layer}: a tuple is a range (lowest, highest) of numbers")
        return tuple(check_value(layer, name, item) for item in value)
    return _single(layer, name, field, value)


def _check_several(layer: str, name: str, field: Any, values: Any) -> None:
    # scapy leaves out what it cannot use here, at best with a warning
    from scapy.fields import PacketListField
    from scapy.layers.inet import TCPOptions

    what = f"field '{name}' of {layer}"
    if not isinstance(values, list):
        raise PacketProblem(f"{what}: expected a list, have {shown(values)}")
    for value in values:
        if isinstance(field, PacketListField) and not (hasattr(value, "layers") or isinstance(value, str | bytes)):
            raise PacketProblem(f"{what}: expected layers, have {shown(value)}")
        if (layer, name) != ("TCP", "options"):
            continue
        if not isinstance(value, tuple) or len(value) != 2:
            raise PacketProblem(f"{what}: an option is a name and a value", "('MSS', 1460), ('NOP', None)")
        if value[0] not in TCPOptions[1] and not (isinstance(value[0], int) and 0 <= value[0] <= 255):
            near = did_you_mean(str(value[0]), TCPOptions[1])
            raise PacketProblem(f"{what}: unknown option {shown(value[0])}{near}", f"one of {listed(TCPOptions[1])}")


def _single(layer: str, name: str, field: Any, value: Any) -> Any:
    from scapy.fields import BitField, FlagsField, IP6Field, IPField, MACField

    what = f"field '{name}' of {layer}"
    if isinstance(field, MACField):
        if not isinstance(value, str) or not _MAC.fullmatch(value):
            raise PacketProblem(f"{what}: {shown(value)} is not a MAC address", "six bytes as in '02:00:00:00:00:01'")
        return value
    if isinstance(field, IPField | IP6Field):
        return _address(what, 6 if isinstance(field, IP6Field) else 4, value)
    if isinstance(value, float):
        raise PacketProblem(f"{what}: {value} is not a whole number")
    if isinstance(value, str) and (name in _MACHINE_NAMED or f"{layer}.{name}" in _MACHINE_NAMED):
        raise PacketProblem(f"{what}: {shown(value)} is a name, and names differ between machines", "its number")
    if isinstance(value, int):
        # scapy cuts off the bits that do not fit, or raises
        unsigned = isinstance(field, BitField) or str(getattr(field, "fmt", ""))[-1:] in ("B", "H", "I", "Q")
        bits = abs(field.size) if isinstance(field, BitField) else 8 * getattr(field, "sz", 0)
        if unsigned and bits and not 0 <= value < 1 << bits:
            raise PacketProblem(f"{what}: {value} does not fit in {bits} bits", f"0 to {(1 << bits) - 1}")
    if isinstance(field, FlagsField) and isinstance(value, str):
        names = list(field.names)
        if any(flag not in names for flag in (value.split("+") if isinstance(field.names, list) else value)):
            raise PacketProblem(f"{what}: unknown flags {shown(value)}", f"some of {listed(map(str, names))}")
    try:
        field.addfield(layer_class(layer)(), b"", field.any2i(None, value))
    except Exception:  # whatever scapy raises for a value that it cannot use, the user gets it in our words
        raise PacketProblem(f"{what}: cannot be {shown(value)}") from None
    return value


def _address(what: str, version: int, value: Any) -> Any:
    kind = IPv4Address if version == 4 else IPv6Address
    example = "10.0.0.1" if version == 4 else "fd00::1"
    if not isinstance(value, str):
        raise PacketProblem(f"{what}: expected an address, have {shown(value)}", f"'{example}'")
    try:
        if "/" not in value:
            return str(kind(value))
        network = ip_network(value, strict=False)
    except ValueError:
        raise PacketProblem(f"{what}: {shown(value)} is not an IPv{version} address", f"'{example}'") from None
    if network.version != version:
        raise PacketProblem(f"{what}: {shown(value)} is not an IPv{version} network")
    if network.num_addresses > MAX_EXPANSION:
        raise PacketProblem(f"{what}: {shown(value)} stands for more than {MAX_EXPANSION} packets")
    return [str(address) for address in network]
