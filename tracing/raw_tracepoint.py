"""BPF_RAW_TRACEPOINT_OPEN, which also attaches programs to the functions that they were loaded for (v6.18)."""

from collections.abc import Callable

from ebpfsim.errors import NotModelled
from ebpfsim.objects import KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, ProgType
from hooks.tracing import TracingKernel, bpf_tracing_prog_attach

__all__ = ["raw_tracepoint_opener"]


def raw_tracepoint_opener(kernel: TracingKernel) -> Callable[[Prog, str, int], KernelObject]:
    """Return what makes the link (``bpf_raw_tp_link_attach``)."""

    def open_link(prog: Prog, name: str, cookie: int) -> KernelObject:
        by_btf = prog.type in (ProgType.TRACING, ProgType.LSM, ProgType.EXT)
        if by_btf and prog.expected_attach_type != AttachType.TRACE_RAW_TP:
            return bpf_tracing_prog_attach(kernel, prog, {}, kind=prog.expected_attach_type)
        raise NotModelled(f"bpf(BPF_RAW_TRACEPOINT_OPEN) of '{name}'", "kernel/bpf/syscall.c: bpf_raw_tp_link_attach")

    return open_link
