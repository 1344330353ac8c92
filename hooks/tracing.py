"""Links of programs on trampolines: fentry, fexit, fmod_ret, LSM, freplace (kernel/bpf/syscall.c, v6.18).

A program is loaded for one function. Its first link goes there unless it says otherwise; after that, programs for
functions of the kernel may be attached there again, programs for functions of programs may not, and those that replace
(type ext) may be attached anywhere where they fit, by ``target_fd`` and ``target_btf_id``.
"""

from typing import Any, ClassVar, Protocol

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Func, FuncProto
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.objects import FdTable
from ebpfsim.progs.prog import AttachTarget, Prog
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from ebpfsim.verifier.attach_prog import check_prog_target, check_type_match
from hooks.link import Link, note
from hooks.point import AttachPoint, Opts, Points
from hooks.program_site import ProgramSite
from hooks.trampoline import CallSite, TrampKernel, TrampLink, Trampoline, Trampolines

__all__ = ["TracingKernel", "TracingLink", "bpf_tracing_prog_attach", "freplace_creator", "points"]

OP = "link_create"
VMLINUX_BTF_ID = 1
TRACED = (AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT, AttachType.MODIFY_RETURN)


class Functions(Protocol):
    """The functions of the kernel."""

    def site(self, name: str) -> CallSite:
        """Return one; KernelError where Linux has no place for a call, NotModelled where nobody calls it here."""
        ...


class TracingKernel(TrampKernel, Protocol):
    """What links on trampolines need of a kernel."""

    trampolines: Trampolines
    links: Any
    fds: FdTable

    @property
    def functions(self) -> Functions:
        """Its functions."""
        ...


class TracingLink(Link):
    """A link of type tracing (``struct bpf_tracing_link``); it keeps its target where that is a program."""

    type: ClassVar[LinkType] = LinkType.TRACING

    def __init__(self, kernel: TracingKernel, prog: Prog, kind: AttachType, cookie: int, label: str = "") -> None:
        super().__init__(kernel, prog, kind, label)
        self.trampolines = kernel.trampolines
        self.tramp_link = TrampLink(kernel, self, cookie)
        self.trampoline: Trampoline | None = None
        self.target: AttachTarget | None = None

    def fill_link_info(self) -> dict[str, object]:
        """Return what is attached to what: the object is BTF of the kernel, or the target program."""
        target = self.target
        assert target is not None
        return {
            "attach_type": int(self.attach_type),
            "target_obj_id": target.prog.id if target.prog is not None else VMLINUX_BTF_ID,
            "target_btf_id": target.id,
            "cookie": self.tramp_link.cookie,
        }

    def release(self) -> None:
        """Take the program off the function, and let go of the target."""
        if self.trampoline is None:
            return
        trampoline, self.trampoline = self.trampoline, None
        trampoline.unlink_prog(self.tramp_link)
        self.trampolines.put(trampoline)
        note(self.kernel, "detach", f"{self.tramp_link.hook} detach: program '{self.prog.name}'", self.details())
        if self.target is not None and self.target.prog is not None:
            self.target.prog.put()

    def details(self) -> dict[str, int | str]:
        """Return what notes tell of the attachment."""
        target = self.target.name if self.target is not None else ""
        return {"hook": self.tramp_link.hook, "target": target, "prog_id": self.prog.id, "link": self.label}


def bpf_tracing_prog_attach(
    kernel: TracingKernel, prog: Prog, opts: Opts, *, kind: AttachType, target_fd: int = 0, label: str = ""
) -> TracingLink:
    """Attach a program to a function and return the link (``bpf_tracing_prog_attach``).

    ``opts`` may have ``target_btf_id`` and ``cookie``.
    """
    btf_id, cookie = opts.get("target_btf_id", 0), opts.get("cookie", 0)
    if prog.type == ProgType.TRACING and prog.expected_attach_type not in TRACED:
        raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' is for no function")
    if bool(target_fd) != bool(btf_id):
        raise KernelError(OP, Errno.EINVAL, "target_fd and target_btf_id go together")
    target, fresh = _choose_target(kernel, prog, target_fd, btf_id)
    key = _key(target)
    link = TracingLink(kernel, prog, kind, cookie, label)
    link.target = target
    try:
        site = _site(kernel, target)
        trampoline = kernel.trampolines.get(key, site)
        try:
            trampoline.link_prog(link.tramp_link)
        except BaseException:
            kernel.trampolines.put(trampoline)
            raise
    except BaseException:
        link.target = None
        link.put()
        raise
    link.trampoline = trampoline
    _take_target(prog, target, fresh)
    text = f"{link.tramp_link.hook} attach: program '{prog.name}' (id {prog.id}) to {target.name}()"
    note(kernel, "attach", text, link.details())
    return link


def _choose_target(kernel: TracingKernel, prog: Prog, target_fd: int, btf_id: int) -> tuple[AttachTarget, bool]:
    # the function, and whether it is the one that the program was loaded for and has not been attached to before
    if target_fd:
        if prog.type != ProgType.EXT:
            raise KernelError(OP, Errno.EINVAL, "only programs that replace may be given another target")
        file = kernel.fds.file(target_fd)
        if file is None or not isinstance(file.obj, Prog):
            raise KernelError(OP, Errno.EBADF if file is None else Errno.EINVAL, f"target_fd {target_fd} is no program")
        if prog.dst_key and file.obj.id << 32 | btf_id == prog.dst_key:
            assert prog.attach_target is not None
            return prog.attach_target, True
        return _check_target(prog, file.obj, btf_id), False
    target = prog.attach_target
    if target is None or (not prog.dst_key and target.prog is not None):
        raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' was attached before, its target is forgotten")
    return target, bool(prog.dst_key)


def _check_target(prog: Prog, target: Prog, btf_id: int) -> AttachTarget:
    # bpf_check_attach_target once more, for a function that the program was not loaded for
    btf = target.btf
    if btf is None or not 0 < btf_id < btf.nr_types:
        raise KernelError(OP, Errno.EINVAL, f"program '{target.name}' has no function with BTF id {btf_id}")
    func = btf.type(btf_id)
    found = check_prog_target(target, btf_id, func.name, True, prog.changes_pkt_data, prog.subprogs[0].might_sleep)
    if isinstance(found, str):
        raise KernelError(OP, Errno.EINVAL, found.strip())
    first = prog.attach_target
    if target.type == ProgType.EXT or first is None or first.prog is None or not isinstance(func, Func):
        raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' cannot replace {func.name}()")
    refused = _mismatch(prog, btf, func)
    if refused:
        raise KernelError(OP, Errno.EINVAL, refused.strip())
    same_type = target.type == prog.dst_type and target.expected_attach_type == prog.dst_attach_type
    if not same_type:
        raise KernelError(OP, Errno.EINVAL, f"program '{target.name}' is of another type than the first target")
    proto = btf.type(func.type_id)
    assert isinstance(proto, FuncProto)
    return AttachTarget(btf, btf_id, func.name, proto, prog=target, subprog=found)


def _mismatch(prog: Prog, btf: Btf, func: Func) -> str:
    own_btf = prog.btf
    if own_btf is None:
        return "Program extension requires BTF"
    own = own_btf.type(prog.subprogs[0].type_id)
    assert isinstance(own, Func)
    return check_type_match(own_btf, own, btf, func)


def _take_target(prog: Prog, target: AttachTarget, fresh: bool) -> None:
    # the link takes over what the program kept since it was loaded, or a reference of its own
    if not fresh and target.prog is not None:
        target.prog.get()
    if prog.dst_prog is not None:
        if not fresh:
            prog.dst_prog.put()
        prog.dst_prog = None
    prog.dst_key = 0


def _key(target: AttachTarget) -> int:
    if target.prog is not None:
        return target.prog.id << 32 | target.id
    return VMLINUX_BTF_ID << 32 | 0x8000_0000 | target.id


def _site(kernel: TracingKernel, target: AttachTarget) -> CallSite:
    if target.prog is None:
        return kernel.functions.site(target.name)
    found = kernel.trampolines.find(_key(target))
    if found is not None:
        return found.site
    return ProgramSite(target)


def freplace_creator(kernel: Any) -> Any:
    """Return what makes links of programs of type ext, whose attach type means nothing."""

    def create(prog: Prog, target: int, _flags: int, opts: Opts) -> TracingLink:
        return bpf_tracing_prog_attach(kernel, prog, opts, kind=AttachType(0), target_fd=target)

    return create


def points(kernel: Any) -> Points:
    """Return the rows of programs on trampolines."""

    def create(kind: AttachType) -> AttachPoint:
        def make(prog: Prog, target: int, _flags: int, opts: Opts) -> TracingLink:
            if prog.expected_attach_type != kind:
                raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' was not loaded for {kind.kernel_name}")
            return bpf_tracing_prog_attach(kernel, prog, opts, kind=kind, target_fd=target)

        return AttachPoint(link_create=make)

    return {kind: create(kind) for kind in (*TRACED, AttachType.LSM_MAC)}
