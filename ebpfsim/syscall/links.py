"""The link commands of bpf(2) (kernel/bpf/syscall.c, v6.18): descriptors to objects; the hooks do the rest."""

from collections.abc import Callable
from typing import Any, cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.objects import KernelObject
from ebpfsim.syscall.attach_types import check_attach_type
from ebpfsim.syscall.common import Calls, enum_value
from ebpfsim.syscall.kernel import BpfLink
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_F_REPLACE
from hooks.struct_ops import StructOpsLink

__all__ = ["LinkCalls"]

LOADED_FOR_IT = frozenset({ProgType.TRACING, ProgType.LSM})


class LinkCalls(Calls):
    """BPF_LINK_*, and the older ways to attach."""

    def link_create(self, prog_fd: int, target: int, attach_type: int, *, flags: int = 0, **opts: Any) -> int:
        """BPF_LINK_CREATE: attach a program to a target (a descriptor or an interface index); ``opts`` by C name."""
        op = "link_create"
        table = self.kernel.attach_table
        if attach_type == AttachType.STRUCT_OPS and table.struct_ops is not None:
            return self.kernel.fds.install(table.struct_ops(self._map(op, prog_fd), flags, opts))
        prog = self._prog(op, prog_fd)
        kind = enum_value(op, AttachType, attach_type)
        check_attach_type(op, prog, kind)
        if prog.type in LOADED_FOR_IT and kind != prog.expected_attach_type:
            raise KernelError(op, Errno.EINVAL, f"it was loaded for {prog.expected_attach_type.kernel_name}")
        create = table.freplace if prog.type == ProgType.EXT else table.point(kind).link_create
        if create is None:
            raise NotModelled(f"bpf(BPF_LINK_CREATE) with {kind.kernel_name}", "kernel/bpf/syscall.c: link_create")
        return self.kernel.fds.install(create(prog, target, flags, opts))

    def link_update(self, fd: int, prog_fd: int, *, old_prog_fd: int = 0, flags: int = 0) -> None:
        """BPF_LINK_UPDATE: replace a link's program, or map; with BPF_F_REPLACE only if it is ``old_prog_fd``."""
        op = "link_update"
        if flags & ~BPF_F_REPLACE:
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
        link = self._link(op, fd)
        # links of struct_ops are of maps (link_update_map)
        find = self._map if isinstance(link, StructOpsLink) else self._prog
        new, old = find(op, prog_fd), None
        if flags & BPF_F_REPLACE:
            old = find(op, old_prog_fd)
        elif old_prog_fd:
            raise KernelError(op, Errno.EINVAL, "old_prog_fd without BPF_F_REPLACE")
        update: Callable[[Any, Any], None] = link.update_map if isinstance(link, StructOpsLink) else link.update
        update(new, old)

    def link_detach(self, fd: int) -> None:
        """BPF_LINK_DETACH: take a program off its hook; the link stays."""
        self._link("link_detach", fd).detach()

    def _link(self, op: str, fd: int) -> BpfLink:
        obj = self._file(op, fd, KernelObject)[0]
        if not hasattr(obj, "detach"):
            raise KernelError(op, Errno.EINVAL, f"fd {fd} is a {type(obj).__name__}, expected a link")
        return cast(BpfLink, obj)
