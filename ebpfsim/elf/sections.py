"""SEC() names and what they say of a program: libbpf's whole table (section_defs, tools/lib/bpf/libbpf.c, libbpf 1.8).

libbpf knows attach types of kernels to come, which Linux 6.18 then refuses.
"""

from dataclasses import dataclass
from enum import IntFlag

from ebpfsim.uapi.bpf import AttachType, ProgType

__all__ = ["SECTION_DEFS", "SectionDef", "SectionFlags", "find_section_def"]


class SectionFlags(IntFlag):
    """What a section name asks for at load time."""

    NONE = 0
    SLEEPABLE = 1
    FRAGS = 2
    ATTACH_BTF = 4
    USDT = 8


@dataclass(frozen=True, slots=True)
class SectionDef:
    """One row: ``SEC("name")``, written ``name+`` also ``SEC("name/...")``. Attach type 0 stands for none."""

    name: str
    prog_type: ProgType
    attach_type: int
    flags: SectionFlags

    def matches(self, section: str) -> bool:
        """Whether a section's name (without ``?``) is of this row."""
        if not self.name.endswith("+"):
            return section == self.name
        return section == self.name[:-1] or section.startswith(self.name[:-1] + "/")


P, A = ProgType, AttachType
NONE, SLEEPABLE, FRAGS = SectionFlags.NONE, SectionFlags.SLEEPABLE, SectionFlags.FRAGS
ATTACH_BTF, USDT = SectionFlags.ATTACH_BTF, SectionFlags.USDT
BTF_SLEEP, USDT_SLEEP = ATTACH_BTF | SLEEPABLE, USDT | SLEEPABLE
# enum bpf_attach_type of Linux 7.2, beyond the last of 6.18
FSESSION, FENTRY_MULTI, FEXIT_MULTI, FSESSION_MULTI = range(58, 62)

# fmt: off
# the first row that matches counts, as there
SECTION_DEFS: tuple[SectionDef, ...] = (
    SectionDef("socket",                   P.SOCKET_FILTER,           0,                                  NONE),
    SectionDef("sk_reuseport/migrate",     P.SK_REUSEPORT,            A.SK_REUSEPORT_SELECT_OR_MIGRATE,   NONE),
    SectionDef("sk_reuseport",             P.SK_REUSEPORT,            A.SK_REUSEPORT_SELECT,              NONE),
    SectionDef("kprobe+",                  P.KPROBE,                  0,                                  NONE),
    SectionDef("uprobe+",                  P.KPROBE,                  0,                                  NONE),
    SectionDef("uprobe.s+",                P.KPROBE,                  0,                                  SLEEPABLE),
    SectionDef("kretprobe+",               P.KPROBE,                  0,                                  NONE),
    SectionDef("uretprobe+",               P.KPROBE,                  0,                                  NONE),
    SectionDef("uretprobe.s+",             P.KPROBE,                  0,                                  SLEEPABLE),
    SectionDef("kprobe.multi+",            P.KPROBE,                  A.TRACE_KPROBE_MULTI,               NONE),
    SectionDef("kretprobe.multi+",         P.KPROBE,                  A.TRACE_KPROBE_MULTI,               NONE),
    SectionDef("kprobe.session+",          P.KPROBE,                  A.TRACE_KPROBE_SESSION,             NONE),
    SectionDef("uprobe.multi+",            P.KPROBE,                  A.TRACE_UPROBE_MULTI,               NONE),
    SectionDef("uretprobe.multi+",         P.KPROBE,                  A.TRACE_UPROBE_MULTI,               NONE),
    SectionDef("uprobe.session+",          P.KPROBE,                  A.TRACE_UPROBE_SESSION,             NONE),
    SectionDef("uprobe.multi.s+",          P.KPROBE,                  A.TRACE_UPROBE_MULTI,               SLEEPABLE),
    SectionDef("uretprobe.multi.s+",       P.KPROBE,                  A.TRACE_UPROBE_MULTI,               SLEEPABLE),
    SectionDef("uprobe.session.s+",        P.KPROBE,                  A.TRACE_UPROBE_SESSION,             SLEEPABLE),
    SectionDef("ksyscall+",                P.KPROBE,                  0,                                  NONE),
    SectionDef("kretsyscall+",             P.KPROBE,                  0,                                  NONE),
    SectionDef("usdt+",                    P.KPROBE,                  0,                                  USDT),
    SectionDef("usdt.s+",                  P.KPROBE,                  0,                                  USDT_SLEEP),
    SectionDef("tc/ingress",               P.SCHED_CLS,               A.TCX_INGRESS,                      NONE),
    SectionDef("tc/egress",                P.SCHED_CLS,               A.TCX_EGRESS,                       NONE),
    SectionDef("tcx/ingress",              P.SCHED_CLS,               A.TCX_INGRESS,                      NONE),
    SectionDef("tcx/egress",               P.SCHED_CLS,               A.TCX_EGRESS,                       NONE),
    SectionDef("tc",                       P.SCHED_CLS,               0,                                  NONE),
    SectionDef("classifier",               P.SCHED_CLS,               0,                                  NONE),
    SectionDef("action",                   P.SCHED_ACT,               0,                                  NONE),
    SectionDef("netkit/primary",           P.SCHED_CLS,               A.NETKIT_PRIMARY,                   NONE),
    SectionDef("netkit/peer",              P.SCHED_CLS,               A.NETKIT_PEER,                      NONE),
    SectionDef("tracepoint+",              P.TRACEPOINT,              0,                                  NONE),
    SectionDef("tp+",                      P.TRACEPOINT,              0,                                  NONE),
    SectionDef("tracepoint.s+",            P.TRACEPOINT,              0,                                  SLEEPABLE),
    SectionDef("tp.s+",                    P.TRACEPOINT,              0,                                  SLEEPABLE),
    SectionDef("raw_tracepoint+",          P.RAW_TRACEPOINT,          0,                                  NONE),
    SectionDef("raw_tp+",                  P.RAW_TRACEPOINT,          0,                                  NONE),
    SectionDef("raw_tracepoint.s+",        P.RAW_TRACEPOINT,          0,                                  SLEEPABLE),
    SectionDef("raw_tp.s+",                P.RAW_TRACEPOINT,          0,                                  SLEEPABLE),
    SectionDef("raw_tracepoint.w+",        P.RAW_TRACEPOINT_WRITABLE, 0,                                  NONE),
    SectionDef("raw_tp.w+",                P.RAW_TRACEPOINT_WRITABLE, 0,                                  NONE),
    SectionDef("tp_btf+",                  P.TRACING,                 A.TRACE_RAW_TP,                     ATTACH_BTF),
    SectionDef("tp_btf.s+",                P.TRACING,                 A.TRACE_RAW_TP,                     BTF_SLEEP),
    SectionDef("fentry+",                  P.TRACING,                 A.TRACE_FENTRY,                     ATTACH_BTF),
    SectionDef("fmod_ret+",                P.TRACING,                 A.MODIFY_RETURN,                    ATTACH_BTF),
    SectionDef("fexit+",                   P.TRACING,                 A.TRACE_FEXIT,                      ATTACH_BTF),
    SectionDef("fentry.s+",                P.TRACING,                 A.TRACE_FENTRY,                     BTF_SLEEP),
    SectionDef("fmod_ret.s+",              P.TRACING,                 A.MODIFY_RETURN,                    BTF_SLEEP),
    SectionDef("fexit.s+",                 P.TRACING,                 A.TRACE_FEXIT,                      BTF_SLEEP),
    SectionDef("fsession+",                P.TRACING,                 FSESSION,                           ATTACH_BTF),
    SectionDef("fsession.s+",              P.TRACING,                 FSESSION,                           BTF_SLEEP),
    SectionDef("fsession.multi+",          P.TRACING,                 FSESSION_MULTI,                     NONE),
    SectionDef("fsession.multi.s+",        P.TRACING,                 FSESSION_MULTI,                     SLEEPABLE),
    SectionDef("fentry.multi+",            P.TRACING,                 FENTRY_MULTI,                       NONE),
    SectionDef("fexit.multi+",             P.TRACING,                 FEXIT_MULTI,                        NONE),
    SectionDef("fentry.multi.s+",          P.TRACING,                 FENTRY_MULTI,                       SLEEPABLE),
    SectionDef("fexit.multi.s+",           P.TRACING,                 FEXIT_MULTI,                        SLEEPABLE),
    SectionDef("freplace+",                P.EXT,                     0,                                  ATTACH_BTF),
    SectionDef("lsm+",                     P.LSM,                     A.LSM_MAC,                          ATTACH_BTF),
    SectionDef("lsm.s+",                   P.LSM,                     A.LSM_MAC,                          BTF_SLEEP),
    SectionDef("lsm_cgroup+",              P.LSM,                     A.LSM_CGROUP,                       ATTACH_BTF),
    SectionDef("iter+",                    P.TRACING,                 A.TRACE_ITER,                       ATTACH_BTF),
    SectionDef("iter.s+",                  P.TRACING,                 A.TRACE_ITER,                       BTF_SLEEP),
    SectionDef("syscall",                  P.SYSCALL,                 0,                                  SLEEPABLE),
    SectionDef("xdp.frags/devmap",         P.XDP,                     A.XDP_DEVMAP,                       FRAGS),
    SectionDef("xdp/devmap",               P.XDP,                     A.XDP_DEVMAP,                       NONE),
    SectionDef("xdp.frags/cpumap",         P.XDP,                     A.XDP_CPUMAP,                       FRAGS),
    SectionDef("xdp/cpumap",               P.XDP,                     A.XDP_CPUMAP,                       NONE),
    SectionDef("xdp.frags",                P.XDP,                     A.XDP,                              FRAGS),
    SectionDef("xdp",                      P.XDP,                     A.XDP,                              NONE),
    SectionDef("perf_event",               P.PERF_EVENT,              0,                                  NONE),
    SectionDef("lwt_in",                   P.LWT_IN,                  0,                                  NONE),
    SectionDef("lwt_out",                  P.LWT_OUT,                 0,                                  NONE),
    SectionDef("lwt_xmit",                 P.LWT_XMIT,                0,                                  NONE),
    SectionDef("lwt_seg6local",            P.LWT_SEG6LOCAL,           0,                                  NONE),
    SectionDef("sockops",                  P.SOCK_OPS,                A.CGROUP_SOCK_OPS,                  NONE),
    SectionDef("sk_skb/stream_parser",     P.SK_SKB,                  A.SK_SKB_STREAM_PARSER,             NONE),
    SectionDef("sk_skb/stream_verdict",    P.SK_SKB,                  A.SK_SKB_STREAM_VERDICT,            NONE),
    SectionDef("sk_skb/verdict",           P.SK_SKB,                  A.SK_SKB_VERDICT,                   NONE),
    SectionDef("sk_skb",                   P.SK_SKB,                  0,                                  NONE),
    SectionDef("sk_msg",                   P.SK_MSG,                  A.SK_MSG_VERDICT,                   NONE),
    SectionDef("lirc_mode2",               P.LIRC_MODE2,              A.LIRC_MODE2,                       NONE),
    SectionDef("flow_dissector",           P.FLOW_DISSECTOR,          A.FLOW_DISSECTOR,                   NONE),
    SectionDef("cgroup_skb/ingress",       P.CGROUP_SKB,              A.CGROUP_INET_INGRESS,              NONE),
    SectionDef("cgroup_skb/egress",        P.CGROUP_SKB,              A.CGROUP_INET_EGRESS,               NONE),
    SectionDef("cgroup/skb",               P.CGROUP_SKB,              0,                                  NONE),
    SectionDef("cgroup/sock_create",       P.CGROUP_SOCK,             A.CGROUP_INET_SOCK_CREATE,          NONE),
    SectionDef("cgroup/sock_release",      P.CGROUP_SOCK,             A.CGROUP_INET_SOCK_RELEASE,         NONE),
    SectionDef("cgroup/sock",              P.CGROUP_SOCK,             A.CGROUP_INET_SOCK_CREATE,          NONE),
    SectionDef("cgroup/post_bind4",        P.CGROUP_SOCK,             A.CGROUP_INET4_POST_BIND,           NONE),
    SectionDef("cgroup/post_bind6",        P.CGROUP_SOCK,             A.CGROUP_INET6_POST_BIND,           NONE),
    SectionDef("cgroup/bind4",             P.CGROUP_SOCK_ADDR,        A.CGROUP_INET4_BIND,                NONE),
    SectionDef("cgroup/bind6",             P.CGROUP_SOCK_ADDR,        A.CGROUP_INET6_BIND,                NONE),
    SectionDef("cgroup/connect4",          P.CGROUP_SOCK_ADDR,        A.CGROUP_INET4_CONNECT,             NONE),
    SectionDef("cgroup/connect6",          P.CGROUP_SOCK_ADDR,        A.CGROUP_INET6_CONNECT,             NONE),
    SectionDef("cgroup/connect_unix",      P.CGROUP_SOCK_ADDR,        A.CGROUP_UNIX_CONNECT,              NONE),
    SectionDef("cgroup/sendmsg4",          P.CGROUP_SOCK_ADDR,        A.CGROUP_UDP4_SENDMSG,              NONE),
    SectionDef("cgroup/sendmsg6",          P.CGROUP_SOCK_ADDR,        A.CGROUP_UDP6_SENDMSG,              NONE),
    SectionDef("cgroup/sendmsg_unix",      P.CGROUP_SOCK_ADDR,        A.CGROUP_UNIX_SENDMSG,              NONE),
    SectionDef("cgroup/recvmsg4",          P.CGROUP_SOCK_ADDR,        A.CGROUP_UDP4_RECVMSG,              NONE),
    SectionDef("cgroup/recvmsg6",          P.CGROUP_SOCK_ADDR,        A.CGROUP_UDP6_RECVMSG,              NONE),
    SectionDef("cgroup/recvmsg_unix",      P.CGROUP_SOCK_ADDR,        A.CGROUP_UNIX_RECVMSG,              NONE),
    SectionDef("cgroup/getpeername4",      P.CGROUP_SOCK_ADDR,        A.CGROUP_INET4_GETPEERNAME,         NONE),
    SectionDef("cgroup/getpeername6",      P.CGROUP_SOCK_ADDR,        A.CGROUP_INET6_GETPEERNAME,         NONE),
    SectionDef("cgroup/getpeername_unix",  P.CGROUP_SOCK_ADDR,        A.CGROUP_UNIX_GETPEERNAME,          NONE),
    SectionDef("cgroup/getsockname4",      P.CGROUP_SOCK_ADDR,        A.CGROUP_INET4_GETSOCKNAME,         NONE),
    SectionDef("cgroup/getsockname6",      P.CGROUP_SOCK_ADDR,        A.CGROUP_INET6_GETSOCKNAME,         NONE),
    SectionDef("cgroup/getsockname_unix",  P.CGROUP_SOCK_ADDR,        A.CGROUP_UNIX_GETSOCKNAME,          NONE),
    SectionDef("cgroup/sysctl",            P.CGROUP_SYSCTL,           A.CGROUP_SYSCTL,                    NONE),
    SectionDef("cgroup/getsockopt",        P.CGROUP_SOCKOPT,          A.CGROUP_GETSOCKOPT,                NONE),
    SectionDef("cgroup/setsockopt",        P.CGROUP_SOCKOPT,          A.CGROUP_SETSOCKOPT,                NONE),
    SectionDef("cgroup/dev",               P.CGROUP_DEVICE,           A.CGROUP_DEVICE,                    NONE),
    SectionDef("struct_ops+",              P.STRUCT_OPS,              0,                                  NONE),
    SectionDef("struct_ops.s+",            P.STRUCT_OPS,              0,                                  SLEEPABLE),
    SectionDef("sk_lookup",                P.SK_LOOKUP,               A.SK_LOOKUP,                        NONE),
    SectionDef("netfilter",                P.NETFILTER,               A.NETFILTER,                        NONE),
)
# fmt: on


def find_section_def(section: str) -> SectionDef | None:
    """Return the row of a section name (a leading ``?`` is ignored), or None for a name that libbpf does not know."""
    name = section.removeprefix("?")
    return next((row for row in SECTION_DEFS if row.matches(name)), None)
