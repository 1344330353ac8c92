"""Numbers of the network user API: XDP verdicts, EtherTypes, IP protocols."""

from enum import IntEnum

__all__ = ["EtherType", "IpProto", "XdpAction", "XdpMode"]


class XdpAction(IntEnum):
    """``enum xdp_action``, include/uapi/linux/bpf.h."""

    XDP_ABORTED = 0
    XDP_DROP = 1
    XDP_PASS = 2
    XDP_TX = 3
    XDP_REDIRECT = 4


class XdpMode(IntEnum):
    """Where a device runs its XDP program: ``XDP_ATTACHED_*`` of include/uapi/linux/if_link.h."""

    NONE = 0
    NATIVE = 1
    GENERIC = 2


class EtherType(IntEnum):
    """``ETH_P_*``, include/uapi/linux/if_ether.h."""

    IP = 0x0800
    ARP = 0x0806
    TEB = 0x6558
    VLAN = 0x8100
    IPV6 = 0x86DD
    VLAN_AD = 0x88A8


class IpProto(IntEnum):
    """``IPPROTO_*``, include/uapi/linux/in.h."""

    ICMP = 1
    IPIP = 4
    TCP = 6
    UDP = 17
    IPV6 = 41
    GRE = 47
    ICMPV6 = 58
