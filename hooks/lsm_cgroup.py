"""LSM programs of control groups (BPF_LSM_CGROUP; kernel/bpf/{cgroup,trampoline}.c, kernel/bpf/bpf_lsm.c, v6.18).

Each hook of the LSM that such programs are attached to has an effective array in every cgroup, at most ten hooks at a
time. A *shim* on the hook's trampoline, one for all cgroups, runs the array of the current task's cgroup: every program
of it, also after one has refused; 0 stands for EPERM, unless a program set another errno.

Differs: hooks that are given a socket ask the current task's cgroup, too, where Linux asks the socket's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.alu import u64
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_F_ALLOW_MULTI, BPF_F_REPLACE
from hooks.cgroup import (
    BPF_F_QUERY_EFFECTIVE,
    LINK_FLAGS,
    Cgroup,
    CgroupItem,
    CgroupLink,
    cgroup_link_attach,
    group_of,
    replaced_prog,
)
from hooks.func_model import func_model
from hooks.point import AttachKernel, AttachPoint, Opts, Points, Queried
from hooks.text import function_address
from hooks.trampoline import TrampKind, Trampoline

__all__ = ["LsmHook", "points"]

CGROUP_LSM_NUM = 10  # include/linux/bpf-cgroup-defs.h
VMLINUX_KEY = 1 << 32 | 0x8000_0000
RUN_LSM = "__cgroup_bpf_run_lsm_current"

# (effective array, context, CPU) -> 0 or a negative errno
RunArray = Callable[[tuple[CgroupItem, ...], int, Cpu], int]


@dataclass(frozen=True, slots=True)
class Shimmed:
    """What a shim returns to its trampoline."""

    r0: int


class ShimProg:
    """The program that a shim is for its trampoline (cgroup_shim_alloc()): it has no id and no instructions."""

    id = 0

    def __init__(self, name: str) -> None:
        self.name = name


class Shim:
    """A link of a trampoline that runs the programs of cgroups (``struct bpf_shim_tramp_link``)."""

    cookie = charge_ps = 0
    hook, checks_recursion, wants_ip = "lsm_cgroup", False, False

    def __init__(self, hook: "LsmHook", returns: bool) -> None:
        self.lsm_hook = hook
        self.kind = TrampKind.MODIFY_RETURN if returns else TrampKind.FEXIT
        self.prog = ShimProg(hook.function)
        self.enter_addr = function_address("__bpf_prog_enter_lsm_cgroup")
        self.exit_addr = function_address("__bpf_prog_exit_lsm_cgroup")
        self.code_addr = function_address(RUN_LSM)
        self.prog_addr = 0

    def shim_run(self, ctx: int, cpu: Cpu) -> Shimmed:
        """Run the array of the current task's cgroup."""
        return Shimmed(u64(self.lsm_hook.run(ctx, cpu)))


class LsmHook:
    """A hook that programs of cgroups are attached to: the key of its arrays, where others have an attach type."""

    def __init__(self, hooks: "LsmHooks", prog: Prog) -> None:
        target = prog.attach_target
        assert target is not None
        self.hooks, self.target = hooks, target
        self.function = target.name
        self.lower = AttachType.LSM_CGROUP.lower
        self.kernel_name = f"{AttachType.LSM_CGROUP.kernel_name} of {target.name}()"
        self.trampoline: Trampoline | None = None
        self.shim: Shim | None = None

    def link(self) -> None:
        """Put the shim on the hook's trampoline unless it is there: EBUSY, E2BIG (bpf_trampoline_link_cgroup_shim)."""
        if self.shim is not None:
            return
        kernel, proto = self.hooks.kernel, self.target.proto
        site = kernel.functions.site(self.function)
        trampoline: Trampoline = kernel.trampolines.get(VMLINUX_KEY | self.target.id, site)
        shim = Shim(self, bool(proto is not None and func_model(vmlinux(), proto).ret_size))
        try:
            trampoline.link_prog(shim)  # type: ignore[arg-type]
        except KernelError:
            kernel.trampolines.put(trampoline)
            raise
        self.trampoline, self.shim = trampoline, shim

    def unlink(self) -> None:
        """Take the shim off when no cgroup has a program on the hook any more."""
        trampoline, shim = self.trampoline, self.shim
        if trampoline is None or shim is None or self.hooks.is_used(self):
            return
        self.trampoline = self.shim = None
        trampoline.unlink_prog(shim)  # type: ignore[arg-type]
        self.hooks.kernel.trampolines.put(trampoline)
        self.hooks.by_id.pop(self.target.id, None)

    def changed(self) -> None:
        """Look after the shim: arrays have changed."""
        self.unlink()

    def run(self, ctx: int, cpu: Cpu) -> int:
        """Run the programs of the current task's cgroup."""
        group: Cgroup | None = self.hooks.kernel.sched.current(cpu).cgroup
        items = group.effective.get(self, ()) if group is not None else ()
        return self.hooks.run_array(items, ctx, cpu) if items else 0


class LsmHooks:
    """The hooks in use, by the number of their functions."""

    def __init__(self, kernel: Any, run_array: RunArray) -> None:
        self.kernel, self.run_array = kernel, run_array
        self.by_id: dict[int, LsmHook] = {}

    def find(self, prog: Prog) -> LsmHook | None:
        """Return the hook that a program is for, if it is in use (bpf_cgroup_atype_find)."""
        return self.by_id.get(prog.attach_target.id) if prog.attach_target is not None else None

    def get(self, op: str, prog: Prog) -> LsmHook:
        """Return the hook that a program is for, ready to be attached to: E2BIG (bpf_cgroup_atype_get)."""
        if prog.type != ProgType.LSM or prog.expected_attach_type != AttachType.LSM_CGROUP:
            raise KernelError(op, Errno.EINVAL, f"program '{prog.name}' was not loaded for a cgroup")
        found = self.find(prog)
        if found is None:
            if len(self.by_id) >= CGROUP_LSM_NUM:
                raise KernelError(op, Errno.E2BIG, f"{CGROUP_LSM_NUM} hooks of the LSM are the most")
            found = LsmHook(self, prog)
            found.link()
            self.by_id[found.target.id] = found
        return found

    def is_used(self, hook: LsmHook) -> bool:
        """Tell whether a cgroup has a program on a hook."""
        root: Cgroup = self.kernel.cgroups.root
        return any(group.progs.get(hook) for group in root.descendants())


def points(kernel: Any, run_array: RunArray) -> Points:
    """Return the row of BPF_LSM_CGROUP."""
    hooks, objects = LsmHooks(kernel, run_array), kernel
    return {
        AttachType.LSM_CGROUP: AttachPoint(
            partial(_link_create, hooks, objects), partial(_attach, hooks, objects), partial(_detach, hooks, objects),
            partial(_query, hooks, objects),
        )
    }  # fmt: skip


def _link_create(hooks: LsmHooks, kernel: AttachKernel, prog: Prog, fd: int, flags: int, opts: Opts) -> CgroupLink:
    op = "link_create"
    if flags & ~LINK_FLAGS:
        raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
    group, hook = group_of(kernel, op, fd), hooks.get(op, prog)
    where = {"id_or_fd": opts.get("relative_fd", 0), "revision": opts.get("expected_revision", 0)}
    try:
        return cgroup_link_attach(kernel, group, prog, AttachType.LSM_CGROUP, key=hook, flags=flags, **where)
    finally:
        hook.unlink()


def _attach(hooks: LsmHooks, kernel: AttachKernel, prog: Prog, fd: int, flags: int, opts: Opts) -> None:
    op = "prog_attach"
    group, hook, replace = group_of(kernel, op, fd), hooks.get(op, prog), None
    try:
        if flags & BPF_F_ALLOW_MULTI and flags & BPF_F_REPLACE:
            replace = replaced_prog(kernel, op, opts.get("replace_bpf_fd", 0), prog)
        where = {"id_or_fd": opts.get("relative_fd", 0), "revision": opts.get("expected_revision", 0)}
        group.attach(op, kernel, hook, prog, replace=replace, flags=flags, **where)
    finally:
        hook.unlink()


def _detach(hooks: LsmHooks, kernel: AttachKernel, prog_fd: int, fd: int, _flags: int, opts: Opts) -> None:
    op, prog = "prog_detach", kernel.fds.lookup(prog_fd) if prog_fd else None
    group = group_of(kernel, op, fd)
    hook = hooks.find(prog) if isinstance(prog, Prog) else None
    if hook is None or not isinstance(prog, Prog):
        raise KernelError(op, Errno.EINVAL, "which hook")
    group.detach(op, hook, prog, revision=opts.get("expected_revision", 0))


def _query(hooks: LsmHooks, kernel: AttachKernel, fd: int, query_flags: int) -> Queried:
    # programs of all hooks, one hook after the other
    group = group_of(kernel, "prog_query", fd)
    found = [group.query(hook, query_flags) for hook in hooks.by_id.values()]
    flags = tuple(each for one in found for each in one.prog_attach_flags)
    ids = tuple(each for one in found for each in one.prog_ids)
    return Queried(prog_ids=ids, prog_attach_flags=() if query_flags & BPF_F_QUERY_EFFECTIVE else flags)
