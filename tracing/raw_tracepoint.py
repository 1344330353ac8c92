"""BPF_RAW_TRACEPOINT_OPEN, which also attaches programs to the functions that they were loaded for (v6.18)."""

from collections.abc import Callable
from typing import Any

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.objects import KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, ProgType
from hooks.point import AttachPoint, Opts, Points
from hooks.tracing import bpf_tracing_prog_attach
from tracing.tracepoints import RawTpLink, raw_tp_link_attach

__all__ = ["points", "raw_tracepoint_opener"]


def raw_tracepoint_opener(kernel: Any) -> Callable[[Prog, str, int], KernelObject]:
    """Return what makes the link (``bpf_raw_tp_link_attach``)."""

    def open_link(prog: Prog, name: str, cookie: int) -> KernelObject:
        by_btf = prog.type in (ProgType.TRACING, ProgType.LSM, ProgType.EXT)
        if prog.expected_attach_type == AttachType.LSM_CGROUP:
            # bpf_tracing_prog_attach()
            raise KernelError("raw_tracepoint_open", Errno.EINVAL, "programs of control groups are attached to those")
        if by_btf and prog.expected_attach_type != AttachType.TRACE_RAW_TP:
            return bpf_tracing_prog_attach(kernel, prog, {}, kind=prog.expected_attach_type)
        return raw_tp_link_attach(kernel, prog, name, cookie)

    return open_link


def points(kernel: Any) -> Points:
    """Return the row of programs that were loaded for a tracepoint by BTF."""

    def create(prog: Prog, _target: int, _flags: int, opts: Opts) -> RawTpLink:
        if prog.expected_attach_type != AttachType.TRACE_RAW_TP:
            raise KernelError("link_create", Errno.EINVAL, f"program '{prog.name}' was not loaded for a tracepoint")
        return raw_tp_link_attach(kernel, prog, "", opts.get("cookie", 0))

    return {AttachType.TRACE_RAW_TP: AttachPoint(link_create=create)}
