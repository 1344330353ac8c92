"""The older ways to attach, and what else makes descriptors from programs: BPF_PROG_ATTACH, _DETACH, _QUERY,
BPF_RAW_TRACEPOINT_OPEN, BPF_ITER_CREATE, BPF_TOKEN_CREATE (kernel/bpf/syscall.c, v6.18).

Arguments are checked in the kernel's order, with its errnos; where a hook would take over, NotModelled says which.
"""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.objects import FdKind
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.attach_types import (
    CGROUP_TYPES,
    MPROG_TYPES,
    PROG_TYPES,
    SOCKMAP_TYPES,
    check_attach_type,
    known_attach_type,
)
from ebpfsim.syscall.common import Calls
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P
from hooks.point import Queried

__all__ = ["AttachCalls"]

# BPF_F_ATTACH_MASK_MPROG and _BASE: REPLACE BEFORE AFTER ID LINK; ALLOW_OVERRIDE ALLOW_MULTI REPLACE PREORDER
MASK_MPROG, MASK_BASE = 0x203C, 0x47
BPF_F_QUERY_EFFECTIVE = 1
QUERIED = CGROUP_TYPES | SOCKMAP_TYPES | MPROG_TYPES | {A.FLOW_DISSECTOR, A.SK_LOOKUP}
# types whose raw tracepoint is chosen at load time (bpf_raw_tp_link_attach)
BY_BTF = frozenset({P.TRACING, P.EXT, P.LSM})
RAW_TRACEPOINTS = frozenset({P.RAW_TRACEPOINT, P.RAW_TRACEPOINT_WRITABLE})


class AttachCalls(Calls):
    """BPF_PROG_ATTACH and its like."""

    def prog_attach(self, prog_fd: int, target_fd: int, attach_type: int, *, flags: int = 0, **opts: int) -> None:
        """BPF_PROG_ATTACH: attach a program to a cgroup, sockmap, network namespace or device; ``opts`` by C name."""
        op = "prog_attach"
        kind = known_attach_type(op, attach_type)
        mask = MASK_BASE
        if kind in MPROG_TYPES:
            mask = MASK_MPROG
        elif kind in CGROUP_TYPES | {A.LSM_MAC}:
            # by the type of program: LSM programs may be a cgroup's
            mask = MASK_BASE | MASK_MPROG
        elif opts.get("relative_fd") or opts.get("expected_revision"):
            raise KernelError(op, Errno.EINVAL, f"{kind.kernel_name} has no order of programs")
        if flags & ~mask:
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
        prog = self._prog(op, prog_fd)
        if prog.type != PROG_TYPES[kind]:
            raise KernelError(op, Errno.EINVAL, f"a {prog.type.lower} program for {kind.kernel_name}")
        check_attach_type(op, prog, kind)
        if prog.type == P.LSM:
            # by what it was loaded for: only those of a cgroup are attached this way
            if prog.expected_attach_type != A.LSM_CGROUP:
                raise KernelError(op, Errno.EINVAL, f"{prog.expected_attach_type.kernel_name} is attached by links")
            self._object(op, target_fd, FdKind.CGROUP)
        self._attach_target(op, kind, target_fd)
        attach = self.kernel.attach_table.point(kind).prog_attach
        if attach is None:
            self._by_link_only(op, kind)
        else:
            attach(prog, target_fd, flags, opts)

    def prog_detach(self, prog_fd: int, target_fd: int, attach_type: int, *, flags: int = 0, **opts: int) -> None:
        """BPF_PROG_DETACH: take a program off what BPF_PROG_ATTACH put it on."""
        op = "prog_detach"
        kind = known_attach_type(op, attach_type)
        if kind in MPROG_TYPES | CGROUP_TYPES | {A.LSM_MAC}:
            if flags & ~MASK_MPROG:
                raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
            if prog_fd and kind in MPROG_TYPES and self._prog(op, prog_fd).type != PROG_TYPES[kind]:
                raise KernelError(op, Errno.EINVAL, f"fd {prog_fd} is of another type than {kind.kernel_name} wants")
        elif flags or opts.get("relative_fd") or opts.get("expected_revision"):
            raise KernelError(op, Errno.EINVAL, f"{kind.kernel_name} has no order of programs")
        self._attach_target(op, kind, target_fd)
        detach = self.kernel.attach_table.point(kind).prog_detach
        if detach is None:
            self._by_link_only(op, kind)
        else:
            if kind in CGROUP_TYPES and prog_fd:
                # cgroup_bpf_prog_detach: a program of another type is as good as none
                prog = self.kernel.fds.lookup(prog_fd)
                prog_fd = prog_fd if isinstance(prog, Prog) and prog.type == PROG_TYPES[kind] else 0
            detach(prog_fd, target_fd, flags, opts)

    def prog_query(self, target_fd: int, attach_type: int, *, query_flags: int = 0) -> Queried:
        """BPF_PROG_QUERY: tell which programs are attached there."""
        op = "prog_query"
        if query_flags & ~BPF_F_QUERY_EFFECTIVE or attach_type not in list(A):
            raise KernelError(op, Errno.EINVAL, f"attach_type {attach_type}, query_flags {query_flags:#x}")
        kind = A(attach_type)
        if kind not in QUERIED:
            raise KernelError(op, Errno.EINVAL, f"nobody keeps a list of {kind.kernel_name}")
        if query_flags and kind not in CGROUP_TYPES | MPROG_TYPES:
            raise KernelError(op, Errno.EINVAL, f"query_flags {query_flags:#x} for {kind.kernel_name}")
        if kind in MPROG_TYPES and self.kernel.device_by_ifindex(target_fd) is None:
            raise KernelError(op, Errno.ENODEV, f"no network device {target_fd}")
        self._attach_target(op, kind, target_fd)
        query = self.kernel.attach_table.point(kind).prog_query
        if query is None:
            raise NotModelled(f"bpf(BPF_PROG_QUERY) with {kind.kernel_name}", "kernel/bpf/syscall.c: bpf_prog_query")
        return query(target_fd, query_flags)

    def raw_tracepoint_open(self, name: str, prog_fd: int, *, cookie: int = 0) -> int:
        """BPF_RAW_TRACEPOINT_OPEN: attach a program to a tracepoint, or to what it was loaded for (no name)."""
        op = "raw_tracepoint_open"
        prog = self._prog(op, prog_fd)
        if prog.type not in BY_BTF | RAW_TRACEPOINTS or (prog.type in BY_BTF and name):
            raise KernelError(op, Errno.EINVAL, f"a {prog.type.lower} program, tracepoint '{name}'")
        if prog.type in RAW_TRACEPOINTS and not name:
            raise KernelError(op, Errno.EFAULT, "the name of the tracepoint is NULL")
        open_link = self.kernel.attach_table.raw_tracepoint
        if open_link is None:
            raise NotModelled(
                f"bpf(BPF_RAW_TRACEPOINT_OPEN) of '{name}'", "kernel/bpf/syscall.c: bpf_raw_tp_link_attach"
            )
        return self.kernel.fds.install(open_link(prog, name, cookie))

    def iter_create(self, link_fd: int, *, flags: int = 0) -> int:
        """BPF_ITER_CREATE: return a descriptor that reads what the iterator of a link writes."""
        op = "iter_create"
        if flags:
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
        file = self.kernel.fds.file(link_fd)
        if file is None:
            raise KernelError(op, Errno.EBADF, f"fd {link_fd} is not open")
        open_iterator = getattr(file.obj, "iter_create", None)
        if open_iterator is None:
            raise KernelError(op, Errno.EINVAL, f"fd {link_fd} is a {type(file.obj).__name__}, no link of an iterator")
        return self.kernel.fds.install(open_iterator())

    def token_create(self, bpffs_fd: int, *, flags: int = 0) -> int:
        """BPF_TOKEN_CREATE: refused. There are no user namespaces that would need a token."""
        op = "token_create"
        if flags:
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
        if self.kernel.fds.file(bpffs_fd) is None:
            raise KernelError(op, Errno.EBADF, f"fd {bpffs_fd} is not open")
        raise KernelError(op, Errno.EINVAL, f"fd {bpffs_fd} is no directory of a bpffs that delegates anything")

    def _by_link_only(self, op: str, kind: A) -> None:
        # the last line of bpf_prog_attach() and bpf_prog_detach(): what knows nothing but links; others are to come
        # without CONFIG_BPF_LIRC_MODE2 there is nothing that infrared could be attached to
        if kind not in CGROUP_TYPES | SOCKMAP_TYPES | MPROG_TYPES | {A.FLOW_DISSECTOR}:
            raise KernelError(op, Errno.EINVAL, f"{kind.kernel_name} is attached by links")
        raise NotModelled(f"bpf(BPF_{op.upper()}) with {kind.kernel_name}", f"kernel/bpf/syscall.c: bpf_{op}")

    def _attach_target(self, op: str, kind: A, target_fd: int) -> None:
        # what is behind the target's descriptor is of the right kind
        if kind in CGROUP_TYPES or (kind == A.LSM_MAC and op == "prog_detach"):
            self._object(op, target_fd, FdKind.CGROUP)
