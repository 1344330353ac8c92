"""Why frames are dropped: ``enum skb_drop_reason`` and the reasons of places that Linux has no skb at.

The numbers are those of include/net/dropreason-core.h, v6.18. A reason is recorded as its name without the prefix
``SKB_DROP_REASON_``, as tracepoint skb:kfree_skb prints it. Reasons in lower case are ours: they belong to wires and
rings, or say honestly that something is not modelled.
"""

from enum import IntEnum

__all__ = ["LINK_LOSS", "MEANINGS", "RX_MISSED", "SkbDropReason", "not_modelled"]


class SkbDropReason(IntEnum):
    """``enum skb_drop_reason``; members without the prefix ``SKB_DROP_REASON_``."""

    NOT_DROPPED_YET = 0
    CONSUMED = 1
    NOT_SPECIFIED = 2
    NO_SOCKET = 3
    SOCKET_CLOSE = 4
    SOCKET_FILTER = 5
    SOCKET_RCVBUFF = 6
    UNIX_DISCONNECT = 7
    UNIX_SKIP_OOB = 8
    PKT_TOO_SMALL = 9
    TCP_CSUM = 10
    UDP_CSUM = 11
    NETFILTER_DROP = 12
    OTHERHOST = 13
    IP_CSUM = 14
    IP_INHDR = 15
    IP_RPFILTER = 16
    UNICAST_IN_L2_MULTICAST = 17
    XFRM_POLICY = 18
    IP_NOPROTO = 19
    PROTO_MEM = 20
    TCP_AUTH_HDR = 21
    TCP_MD5NOTFOUND = 22
    TCP_MD5UNEXPECTED = 23
    TCP_MD5FAILURE = 24
    TCP_AONOTFOUND = 25
    TCP_AOUNEXPECTED = 26
    TCP_AOKEYNOTFOUND = 27
    TCP_AOFAILURE = 28
    SOCKET_BACKLOG = 29
    TCP_FLAGS = 30
    TCP_ABORT_ON_DATA = 31
    TCP_ZEROWINDOW = 32
    TCP_OLD_DATA = 33
    TCP_OVERWINDOW = 34
    TCP_OFOMERGE = 35
    TCP_RFC7323_PAWS = 36
    TCP_RFC7323_PAWS_ACK = 37
    TCP_RFC7323_TW_PAWS = 38
    TCP_RFC7323_TSECR = 39
    TCP_LISTEN_OVERFLOW = 40
    TCP_OLD_SEQUENCE = 41
    TCP_INVALID_SEQUENCE = 42
    TCP_INVALID_END_SEQUENCE = 43
    TCP_INVALID_ACK_SEQUENCE = 44
    TCP_RESET = 45
    TCP_INVALID_SYN = 46
    TCP_CLOSE = 47
    TCP_FASTOPEN = 48
    TCP_OLD_ACK = 49
    TCP_TOO_OLD_ACK = 50
    TCP_ACK_UNSENT_DATA = 51
    TCP_OFO_QUEUE_PRUNE = 52
    TCP_OFO_DROP = 53
    IP_OUTNOROUTES = 54
    BPF_CGROUP_EGRESS = 55
    IPV6DISABLED = 56
    NEIGH_CREATEFAIL = 57
    NEIGH_FAILED = 58
    NEIGH_QUEUEFULL = 59
    NEIGH_DEAD = 60
    NEIGH_HH_FILLFAIL = 61
    TC_EGRESS = 62
    SECURITY_HOOK = 63
    QDISC_DROP = 64
    QDISC_OVERLIMIT = 65
    QDISC_CONGESTED = 66
    CAKE_FLOOD = 67
    FQ_BAND_LIMIT = 68
    FQ_HORIZON_LIMIT = 69
    FQ_FLOW_LIMIT = 70
    CPU_BACKLOG = 71
    XDP = 72
    TC_INGRESS = 73
    UNHANDLED_PROTO = 74
    SKB_CSUM = 75
    SKB_GSO_SEG = 76
    SKB_UCOPY_FAULT = 77
    DEV_HDR = 78
    DEV_READY = 79
    FULL_RING = 80
    NOMEM = 81
    HDR_TRUNC = 82
    TAP_FILTER = 83
    TAP_TXFILTER = 84
    ICMP_CSUM = 85
    INVALID_PROTO = 86
    IP_INADDRERRORS = 87
    IP_INNOROUTES = 88
    IP_LOCAL_SOURCE = 89
    IP_INVALID_SOURCE = 90
    IP_LOCALNET = 91
    IP_INVALID_DEST = 92
    PKT_TOO_BIG = 93
    DUP_FRAG = 94
    FRAG_REASM_TIMEOUT = 95
    FRAG_TOO_FAR = 96
    TCP_MINTTL = 97
    IPV6_BAD_EXTHDR = 98
    IPV6_NDISC_FRAG = 99
    IPV6_NDISC_HOP_LIMIT = 100
    IPV6_NDISC_BAD_CODE = 101
    IPV6_NDISC_BAD_OPTIONS = 102
    IPV6_NDISC_NS_OTHERHOST = 103
    QUEUE_PURGE = 104
    TC_COOKIE_ERROR = 105
    PACKET_SOCK_ERROR = 106
    TC_CHAIN_NOTFOUND = 107
    TC_RECLASSIFY_LOOP = 108
    VXLAN_INVALID_HDR = 109
    VXLAN_VNI_NOT_FOUND = 110
    MAC_INVALID_SOURCE = 111
    VXLAN_ENTRY_EXISTS = 112
    NO_TX_TARGET = 113
    IP_TUNNEL_ECN = 114
    TUNNEL_TXINFO = 115
    LOCAL_MAC = 116
    ARP_PVLAN_DISABLE = 117
    MAC_IEEE_MAC_CONTROL = 118
    BRIDGE_INGRESS_STP_STATE = 119
    CAN_RX_INVALID_FRAME = 120
    CANFD_RX_INVALID_FRAME = 121
    CANXL_RX_INVALID_FRAME = 122
    PFMEMALLOC = 123
    DUALPI2_STEP_DROP = 124
    PSP_INPUT = 125
    PSP_OUTPUT = 126
    RECURSION_LIMIT = 127


# a frame that a wire lost, by its loss probability
LINK_LOSS = "link: lost"
# the RX ring was full: the frame counts as rx_missed_errors and never becomes an skb
RX_MISSED = "nic: rx_missed_errors"


def not_modelled(feature: str) -> str:
    """Return the reason of a frame that Linux would go on with and ebpfsim cannot."""
    return f"not modelled: {feature}"


# the reasons that newcomers meet first, in words
MEANINGS = {
    LINK_LOSS: "the wire's loss",
    RX_MISSED: "the card's ring was full",
    "IP_INHDR": "the IP header is wrong, or its TTL is used up",
    "IP_INNOROUTES": "no route to its destination",
    "IP_LOCAL_SOURCE": "it came in with an address of this host as its source",
    "NEIGH_FAILED": "nobody answered ARP for the next hop",
    "NEIGH_QUEUEFULL": "too many waited for an answer to ARP",
    "NO_SOCKET": "nothing listens for it",
    "OTHERHOST": "its MAC address is another host's",
    "QDISC_DROP": "the wire's queue was full",
    "UNHANDLED_PROTO": "the host does not speak this protocol",
    "XDP": "an XDP program dropped it",
}
