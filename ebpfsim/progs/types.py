"""THE table of program types: which helpers each may call, and what its programs may return.

The helper sets were read off a Linux 6.18 kernel by loading one call of each; they follow the ``*_func_proto``
functions of net/core/filter.c, kernel/trace/bpf_trace.c and kernel/bpf/cgroup.c. The contexts stand in
``ebpfsim.progs.ctx``.
"""

from dataclasses import dataclass
from functools import cache

from ebpfsim.uapi.bpf import AttachType, ProgType

__all__ = ["CTX_TYPES", "PROG_TYPES", "ProgTypeInfo", "helpers_for"]


def ids(text: str) -> frozenset[int]:
    """Return the numbers of a list such as ``1-3 5``."""
    numbers: set[int] = set()
    for part in text.split():
        low, _, high = part.partition("-")
        numbers.update(range(int(low), int(high or low) + 1))
    return frozenset(numbers)


@dataclass(frozen=True, slots=True)
class ProgTypeInfo:
    """One program type: ``helpers`` by number.

    ``direct_packet`` is the access through packet pointers: none, read, write.
    """

    type: ProgType
    helpers: frozenset[int]
    direct_packet: str = "none"
    ld_abs: bool = False  # LD_ABS and LD_IND: the context is a struct sk_buff


# what every type may call (bpf_base_func_proto(), cgroup_common_func_proto(), tracing of one's own)
_BASE = ids(
    "1-3 5-8 12 14-17 22 35 37 42 55 80 87-89 93-94 105-106 109 112-115 117-118 120 123 125 130-134 141 148-149 "
    "153-154 156-158 164-165 169-172 175-177 180-182 191 194-195 197-203 208-211"
)
_SK_CASTS = ids("136-140 178 196")
_NET = _BASE | _SK_CASTS | ids("25 160 204-207") - ids("204-207")
_TRACING = _BASE | ids("4 25 27 45 67 173-174")
# what programs for any kernel function may call
_KERNEL = _TRACING | _SK_CASTS | ids("46 107-108 111 121 147 162 188")
_SYNCOOKIE = ids("204-207")
_CGROUP = ids("25 81")


def _row(
    type_: ProgType, helpers: frozenset[int], direct_packet: str = "none", *, ld_abs: bool = False
) -> ProgTypeInfo:
    return ProgTypeInfo(type_, helpers, direct_packet, ld_abs)


_TC = _NET | ids("9-11 13 18-21 23-24 26 28-34 38-41 43 46-48 50 66 68-69 79 83-86 95-100 107-108 110 122 124 135")
_TC |= ids("151-152 155 163 192") | _SYNCOOKIE
_XDP = _NET | ids("23 28 44 51 54 65 69 84-86 99-100 110 163 188-190") | _SYNCOOKIE
_LWT = _NET | ids("24 26 28 33-34 39")
_SOCK_ADDR = _NET | _CGROUP | ids("46 49 57 84-86 99 107-108 122")

_ROWS = (
    _row(ProgType.SOCKET_FILTER, _NET | ids("26 46-47 68 122"), ld_abs=True),
    _row(ProgType.KPROBE, _TRACING),
    _row(ProgType.SCHED_CLS, _TC, "write", ld_abs=True),
    _row(ProgType.SCHED_ACT, _TC, "write", ld_abs=True),
    _row(ProgType.TRACEPOINT, _TRACING),
    _row(ProgType.XDP, _XDP, "write"),
    _row(ProgType.PERF_EVENT, _TRACING | ids("56 119")),
    _row(ProgType.CGROUP_SKB, _NET | _CGROUP | ids("26 46-47 68 79 83-86 95-99 107-108 122 128-129"), "read"),
    _row(ProgType.CGROUP_SOCK, _BASE | _CGROUP | ids("46 107 122 160")),
    _row(ProgType.LWT_IN, _LWT | ids("73"), "read"),
    _row(ProgType.LWT_OUT, _LWT, "read"),
    _row(ProgType.LWT_XMIT, _LWT | ids("9-11 13 20-21 23 29-30 38 40-41 43 73 135"), "write"),
    _row(ProgType.SOCK_OPS, _NET | _CGROUP | ids("46 49 53 57 59 70 96 107-108 122 142-144")),
    _row(ProgType.SK_SKB, _NET | ids("9 26 38-39 43 46-47 50 52 72 84-86 99"), "write"),
    _row(ProgType.CGROUP_DEVICE, _BASE | _CGROUP),
    _row(ProgType.SK_MSG, _NET | ids("60-63 71 90-91 107-108 122"), "write"),
    _row(ProgType.RAW_TRACEPOINT, _TRACING),
    _row(ProgType.CGROUP_SOCK_ADDR, _SOCK_ADDR),
    _row(ProgType.LWT_SEG6LOCAL, _LWT | ids("74-76"), "read"),
    _row(ProgType.SK_REUSEPORT, _BASE | ids("26 46 68 82 160"), "read"),
    _row(ProgType.FLOW_DISSECTOR, _NET - ids("25") | ids("26"), "read"),
    _row(ProgType.CGROUP_SYSCTL, _BASE | _CGROUP | ids("101-104 160")),
    _row(ProgType.RAW_TRACEPOINT_WRITABLE, _TRACING),
    _row(ProgType.CGROUP_SOCKOPT, _BASE | _CGROUP | ids("96 107-108 122"), "sockopt"),
    _row(ProgType.SK_LOOKUP, _NET | ids("86 124")),
    _row(ProgType.NETFILTER, _BASE),
    _row(ProgType.TRACING, _KERNEL),
    _row(ProgType.SYSCALL, _KERNEL - ids("46 174") | ids("166-168 179")),
    _row(ProgType.STRUCT_OPS, frozenset()),
    _row(ProgType.LSM, _KERNEL | ids("145-146 159 161 183-185 193")),
)
PROG_TYPES: dict[ProgType, ProgTypeInfo] = {row.type: row for row in _ROWS}

# helpers that only some attach types of a program type may call
_BY_ATTACH: dict[tuple[ProgType, AttachType], frozenset[int]] = {
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT): ids("64"),
    (ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT): ids("64"),
    (ProgType.CGROUP_SOCKOPT, AttachType.CGROUP_SETSOCKOPT): ids("49 57"),
    (ProgType.TRACING, AttachType.TRACE_FENTRY): ids("183-185"),
    (ProgType.TRACING, AttachType.TRACE_FEXIT): ids("183-185"),
    (ProgType.TRACING, AttachType.MODIFY_RETURN): ids("183-185"),
}
# bpf_get_retval() and bpf_set_retval() belong to control groups, but for these attach types, whatever a program is
_RETVAL = ids("186-187")
_WITHOUT_RETVAL = frozenset(
    {
        *(AttachType.CGROUP_INET_INGRESS, AttachType.CGROUP_INET_EGRESS, AttachType.CGROUP_SOCK_OPS),
        *(AttachType.CGROUP_UDP4_RECVMSG, AttachType.CGROUP_UDP6_RECVMSG, AttachType.CGROUP_UNIX_RECVMSG),
        *(AttachType.CGROUP_INET4_GETPEERNAME, AttachType.CGROUP_INET6_GETPEERNAME, AttachType.CGROUP_UNIX_GETPEERNAME),
        *(AttachType.CGROUP_INET4_GETSOCKNAME, AttachType.CGROUP_INET6_GETSOCKNAME, AttachType.CGROUP_UNIX_GETSOCKNAME),
    }
)
_OF_CGROUPS = frozenset(
    {
        *(ProgType.CGROUP_SKB, ProgType.CGROUP_SOCK, ProgType.CGROUP_SOCK_ADDR, ProgType.CGROUP_SOCKOPT),
        *(ProgType.CGROUP_DEVICE, ProgType.CGROUP_SYSCTL, ProgType.SOCK_OPS),
    }
)
# helpers that depend on what a program is for: members of structures of functions, targets of iterators
_TCP_CA = _BASE | ids("107-108 116 160")
_SOCKOPT = ids("49 57")
_BY_TARGET: dict[str, frozenset[int]] = {
    **dict.fromkeys(
        (
            "ssthresh", "cong_avoid", "set_state", "cwnd_event", "in_ack_event", "pkts_acked", "min_tso_segs",
            "cong_control", "undo_cwnd", "sndbuf_expand", "init",
        ),
        _TCP_CA | _SOCKOPT,
    ),
    "release": _TCP_CA,
    "bpf_iter_tcp": _SOCKOPT,
    "bpf_iter_unix": _SOCKOPT,
}  # fmt: skip
# security hooks that may set options of the socket
_SOCKET_HOOKS = tuple(
    f"bpf_lsm_{hook}"
    for hook in ("socket_post_create", "socket_socketpair", "sock_graft", "inet_csk_clone", "inet_conn_established")
)


@cache
def helpers_for(prog_type: ProgType, attach_type: int, target: str = "") -> frozenset[int]:
    """Return the helpers that a program may call; ``target`` names the function of the kernel that it is for."""
    row = PROG_TYPES[prog_type]
    if prog_type == ProgType.STRUCT_OPS:
        return _BY_TARGET.get(target, row.helpers)
    extra = _BY_ATTACH.get((prog_type, AttachType(attach_type))) if attach_type in set(AttachType) else None
    if prog_type in _OF_CGROUPS and attach_type not in _WITHOUT_RETVAL:
        return row.helpers | _RETVAL | (extra or frozenset())
    if attach_type == AttachType.LSM_CGROUP:
        sockets = _SOCKOPT if target in _SOCKET_HOOKS else frozenset()
        return (row.helpers | ids("81 186-187") | sockets) - ids("174 183-185")
    if prog_type == ProgType.TRACING and attach_type == AttachType.TRACE_ITER:
        return (row.helpers | ids("126-127 150") | _BY_TARGET.get(target, frozenset())) - ids("174")
    return row.helpers | extra if extra else row.helpers


# the structure that a function declares as its context: its typedef, if it has one, and its name (bpf_types.h)
CTX_TYPES: dict[ProgType, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            ProgType.SOCKET_FILTER, ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.CGROUP_SKB, ProgType.LWT_IN,
            ProgType.LWT_OUT, ProgType.LWT_XMIT, ProgType.LWT_SEG6LOCAL, ProgType.SK_SKB, ProgType.FLOW_DISSECTOR,
        ),
        ("__sk_buff",),
    ),
    ProgType.XDP: ("xdp_md",),
    ProgType.CGROUP_SOCK: ("bpf_sock",),
    ProgType.CGROUP_SOCK_ADDR: ("bpf_sock_addr",),
    ProgType.SOCK_OPS: ("bpf_sock_ops",),
    ProgType.SK_MSG: ("sk_msg_md",),
    ProgType.KPROBE: ("bpf_user_pt_regs_t", "pt_regs"),
    ProgType.RAW_TRACEPOINT: ("bpf_raw_tracepoint_args",),
    ProgType.RAW_TRACEPOINT_WRITABLE: ("bpf_raw_tracepoint_args",),
    ProgType.PERF_EVENT: ("bpf_perf_event_data",),
    ProgType.CGROUP_DEVICE: ("bpf_cgroup_dev_ctx",),
    ProgType.CGROUP_SYSCTL: ("bpf_sysctl",),
    ProgType.CGROUP_SOCKOPT: ("bpf_sockopt",),
    ProgType.SK_REUSEPORT: ("sk_reuseport_md",),
    ProgType.SK_LOOKUP: ("bpf_sk_lookup",),
    ProgType.NETFILTER: ("bpf_nf_ctx",),
}  # fmt: skip
