"""Which type of program belongs to an attach type (``attach_type_to_prog_type`` and
``bpf_prog_attach_check_attach_type`` of kernel/bpf/syscall.c, v6.18)."""

from collections.abc import Mapping

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

__all__ = ["CGROUP_TYPES", "MPROG_TYPES", "PROG_TYPES", "SOCKMAP_TYPES", "check_attach_type", "known_attach_type"]

# attach_type_to_prog_type(): types of programs by what BPF_PROG_ATTACH is told
PROG_TYPES: Mapping[A, P] = {
    **dict.fromkeys((A.CGROUP_INET_INGRESS, A.CGROUP_INET_EGRESS), P.CGROUP_SKB),
    **dict.fromkeys(
        (A.CGROUP_INET_SOCK_CREATE, A.CGROUP_INET_SOCK_RELEASE, A.CGROUP_INET4_POST_BIND, A.CGROUP_INET6_POST_BIND),
        P.CGROUP_SOCK,
    ),
    **dict.fromkeys(
        [
            kind
            for kind in A
            if kind.name.startswith(("CGROUP_INET4_", "CGROUP_INET6_", "CGROUP_UDP", "CGROUP_UNIX_"))
            and not kind.name.endswith("POST_BIND")
        ],
        P.CGROUP_SOCK_ADDR,
    ),
    A.CGROUP_SOCK_OPS: P.SOCK_OPS,
    A.CGROUP_DEVICE: P.CGROUP_DEVICE,
    A.CGROUP_SYSCTL: P.CGROUP_SYSCTL,
    **dict.fromkeys((A.CGROUP_GETSOCKOPT, A.CGROUP_SETSOCKOPT), P.CGROUP_SOCKOPT),
    **dict.fromkeys((A.SK_SKB_STREAM_PARSER, A.SK_SKB_STREAM_VERDICT, A.SK_SKB_VERDICT), P.SK_SKB),
    A.SK_MSG_VERDICT: P.SK_MSG,
    A.LIRC_MODE2: P.LIRC_MODE2,
    A.FLOW_DISSECTOR: P.FLOW_DISSECTOR,
    A.SK_LOOKUP: P.SK_LOOKUP,
    A.XDP: P.XDP,
    **dict.fromkeys((A.TRACE_ITER, A.TRACE_RAW_TP, A.TRACE_FENTRY, A.TRACE_FEXIT, A.MODIFY_RETURN), P.TRACING),
    **dict.fromkeys((A.LSM_MAC, A.LSM_CGROUP), P.LSM),
    **dict.fromkeys((A.TCX_INGRESS, A.TCX_EGRESS, A.NETKIT_PRIMARY, A.NETKIT_PEER), P.SCHED_CLS),
}
CGROUP_TYPES = frozenset(kind for kind in PROG_TYPES if kind.name.startswith("CGROUP_")) | {A.LSM_CGROUP}
MPROG_TYPES = frozenset({A.TCX_INGRESS, A.TCX_EGRESS, A.NETKIT_PRIMARY, A.NETKIT_PEER})
SOCKMAP_TYPES = frozenset({A.SK_SKB_STREAM_PARSER, A.SK_SKB_STREAM_VERDICT, A.SK_SKB_VERDICT, A.SK_MSG_VERDICT})
# programs that are loaded for one attach type
LOADED_FOR = frozenset({P.CGROUP_SOCK, P.CGROUP_SOCK_ADDR, P.CGROUP_SOCKOPT, P.SK_LOOKUP})
# attach types that programs of kprobes are loaded for, and that are then the only ones
MULTI = frozenset({A.TRACE_KPROBE_MULTI, A.TRACE_KPROBE_SESSION, A.TRACE_UPROBE_MULTI, A.TRACE_UPROBE_SESSION})
ATTACH_TYPES: Mapping[P, frozenset[A]] = {
    P.NETFILTER: frozenset({A.NETFILTER}),
    P.PERF_EVENT: frozenset({A.PERF_EVENT}),
    P.TRACEPOINT: frozenset({A.PERF_EVENT}),
    P.KPROBE: MULTI | {A.PERF_EVENT},
    P.SCHED_CLS: MPROG_TYPES,
}


def check_attach_type(op: str, prog: Prog, kind: A) -> None:
    """Refuse an attach type that is not one of the program's (``bpf_prog_attach_check_attach_type``): EINVAL."""
    expected = prog.expected_attach_type
    if prog.type in LOADED_FOR:
        fits = kind == expected
    elif prog.type == P.EXT:
        fits = True
    elif prog.type in ATTACH_TYPES:
        fits = kind in ATTACH_TYPES[prog.type]
        if prog.type == P.KPROBE and expected in MULTI:
            fits = kind == expected
    elif prog.type == P.CGROUP_SKB:
        # programs that return congestion are for egress only (enforce_expected_attach_type)
        fits = PROG_TYPES.get(kind) == prog.type and not (prog.enforce_expected_attach_type and expected != kind)
    else:
        fits = PROG_TYPES.get(kind) == prog.type
    if not fits:
        text = f"a {prog.type.lower} program, loaded for {expected.kernel_name}, for {kind.kernel_name}"
        raise KernelError(op, Errno.EINVAL, text)


def known_attach_type(op: str, attach_type: int) -> A:
    """Return an attach type that BPF_PROG_ATTACH knows; EINVAL."""
    if attach_type not in list(A) or A(attach_type) not in PROG_TYPES:
        raise KernelError(op, Errno.EINVAL, f"attach_type {attach_type}")
    return A(attach_type)
