"""Numbers of the kernel's user API: enums, flags, helper ids. No behaviour here."""

from ebpfsim.uapi.bpf import AttachType, BpfCmd, LinkType, MapType, ProgType
from ebpfsim.uapi.net import EtherType, IpProto, XdpAction, XdpMode

__all__ = [
    "AttachType",
    "BpfCmd",
    "EtherType",
    "IpProto",
    "LinkType",
    "MapType",
    "ProgType",
    "XdpAction",
    "XdpMode",
]
