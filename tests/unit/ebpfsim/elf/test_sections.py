"""SEC() names against the table of Documentation/bpf/libbpf/program_types.rst, v6.18."""

import pytest

from ebpfsim.elf.sections import SECTION_DEFS, SectionFlags, find_section_def
from ebpfsim.uapi.bpf import AttachType, ProgType

F = SectionFlags


@pytest.mark.parametrize(
    ("section", "prog_type", "attach_type", "flags"),
    [
        ("socket", ProgType.SOCKET_FILTER, 0, F.NONE),
        ("xdp", ProgType.XDP, AttachType.XDP, F.NONE),
        ("xdp.frags", ProgType.XDP, AttachType.XDP, F.FRAGS),
        ("xdp/devmap", ProgType.XDP, AttachType.XDP_DEVMAP, F.NONE),
        ("xdp.frags/cpumap", ProgType.XDP, AttachType.XDP_CPUMAP, F.FRAGS),
        ("tc", ProgType.SCHED_CLS, 0, F.NONE),
        ("classifier", ProgType.SCHED_CLS, 0, F.NONE),
        ("action", ProgType.SCHED_ACT, 0, F.NONE),
        ("tcx/ingress", ProgType.SCHED_CLS, AttachType.TCX_INGRESS, F.NONE),
        ("netkit/peer", ProgType.SCHED_CLS, AttachType.NETKIT_PEER, F.NONE),
        ("kprobe/do_unlinkat", ProgType.KPROBE, 0, F.NONE),
        ("kprobe", ProgType.KPROBE, 0, F.NONE),
        ("kretprobe.multi/tcp_*", ProgType.KPROBE, AttachType.TRACE_KPROBE_MULTI, F.NONE),
        ("uprobe.s/libc.so.6:malloc", ProgType.KPROBE, 0, F.SLEEPABLE),
        ("usdt/./app:provider:name", ProgType.KPROBE, 0, F.USDT),
        ("tp/syscalls/sys_enter_openat", ProgType.TRACEPOINT, 0, F.NONE),
        ("raw_tp.w/sched_switch", ProgType.RAW_TRACEPOINT_WRITABLE, 0, F.NONE),
        ("tp_btf/sched_switch", ProgType.TRACING, AttachType.TRACE_RAW_TP, F.ATTACH_BTF),
        ("fentry.s/tcp_close", ProgType.TRACING, AttachType.TRACE_FENTRY, F.ATTACH_BTF | F.SLEEPABLE),
        ("fmod_ret/bpf_fentry_test1", ProgType.TRACING, AttachType.MODIFY_RETURN, F.ATTACH_BTF),
        ("lsm/file_open", ProgType.LSM, AttachType.LSM_MAC, F.ATTACH_BTF),
        ("lsm_cgroup/socket_bind", ProgType.LSM, AttachType.LSM_CGROUP, F.ATTACH_BTF),
        ("iter/task", ProgType.TRACING, AttachType.TRACE_ITER, F.ATTACH_BTF),
        ("freplace/func", ProgType.EXT, 0, F.ATTACH_BTF),
        ("syscall", ProgType.SYSCALL, 0, F.SLEEPABLE),
        ("cgroup/connect4", ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT, F.NONE),
        ("cgroup_skb/egress", ProgType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS, F.NONE),
        ("cgroup/skb", ProgType.CGROUP_SKB, 0, F.NONE),
        ("sk_skb/stream_verdict", ProgType.SK_SKB, AttachType.SK_SKB_STREAM_VERDICT, F.NONE),
        ("sockops", ProgType.SOCK_OPS, AttachType.CGROUP_SOCK_OPS, F.NONE),
        ("sk_reuseport/migrate", ProgType.SK_REUSEPORT, AttachType.SK_REUSEPORT_SELECT_OR_MIGRATE, F.NONE),
        ("struct_ops.s/init", ProgType.STRUCT_OPS, 0, F.SLEEPABLE),
        ("netfilter", ProgType.NETFILTER, AttachType.NETFILTER, F.NONE),
        ("?xdp", ProgType.XDP, AttachType.XDP, F.NONE),
    ],
)
def test_section_names(section: str, prog_type: ProgType, attach_type: int, flags: SectionFlags) -> None:
    row = find_section_def(section)
    assert row is not None
    assert (row.prog_type, row.attach_type, row.flags) == (prog_type, attach_type, flags)


@pytest.mark.parametrize("section", ["xdp_prog", "xdp/other", "tc_cls", "kprobes/x", "fentryx", "", ".text"])
def test_names_that_libbpf_does_not_know(section: str) -> None:
    assert find_section_def(section) is None


def test_no_name_is_listed_twice() -> None:
    assert len({row.name for row in SECTION_DEFS}) == len(SECTION_DEFS)
