"""tcx: programs at the ingress and egress of a device, in an order of their own (kernel/bpf/tcx.c, v6.18).

An entry of a device comes to be with its first program or with a clsact qdisc and goes with the last of them; its
revision starts anew then. The data path (``netstack.tc``) runs ``TcxState.ingress`` and ``.egress``.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import ClassVar, Protocol

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.objects import KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from ebpfsim.uapi.flags import BPF_F_ID, BPF_F_REPLACE
from hooks.link import Link, note
from hooks.mprog import Mprog, MprogItem
from hooks.point import AttachKernel, AttachPoint, Opts, Points, Queried
from hooks.tc import MiniQdisc

__all__ = ["TcxEntry", "TcxLink", "TcxState", "mprog_points", "points", "prog_of_type", "tcx_link_attach"]

HOOKS = {AttachType.TCX_INGRESS: "tcx_ingress", AttachType.TCX_EGRESS: "tcx_egress"}


class TcxDevice(Protocol):
    """What attaching needs of a network device."""

    name: str
    ifindex: int

    @property
    def tcx(self) -> "TcxState":
        """The device's entries."""
        ...


class TcxEntry:
    """``struct tcx_entry``: the programs, and the filters of a clsact or ingress qdisc that come after them."""

    __slots__ = ("miniq", "mprog")

    def __init__(self) -> None:
        self.mprog = Mprog()
        self.miniq: MiniQdisc | None = None

    @property
    def active(self) -> bool:
        """Whether there is a reason to keep the entry (tcx_entry_is_active)."""
        return bool(self.mprog.items) or self.miniq is not None


class TcxState:
    """The two entries of one device, None while nothing is there.

    ``ingress_queue``: a qdisc was there once, and left its queue (dev_ingress_queue_create).
    """

    __slots__ = ("device", "egress", "ingress", "ingress_queue", "kernel")

    @property
    def link_class(self) -> "type[TcxLink]":
        """What a link to here is."""
        return TcxLink

    @property
    def names(self) -> Mapping[AttachType, str]:
        """What its hooks are called in records."""
        return HOOKS

    def __init__(self, device: TcxDevice, kernel: AttachKernel) -> None:
        self.device = device
        self.kernel = kernel
        self.ingress: TcxEntry | None = None
        self.egress: TcxEntry | None = None
        self.ingress_queue = False

    def entry(self, kind: AttachType) -> TcxEntry | None:
        """Return the entry of a direction (tcx_entry_fetch)."""
        return self.ingress if kind == AttachType.TCX_INGRESS else self.egress

    def change(self, kind: AttachType, action: Callable[[TcxEntry], MprogItem | None]) -> MprogItem | None:
        """Do something to an entry that is made when there is none, and dropped when nothing is left in it."""
        entry = self.entry(kind) or TcxEntry()
        item = action(entry)
        kept = entry if entry.active else None
        if kind == AttachType.TCX_INGRESS:
            self.ingress = kept
        else:
            self.egress = kept
        return item

    def set_miniq(self, kind: AttachType, miniq: MiniQdisc | None) -> None:
        """Put the filters of a qdisc behind the programs, or take them away."""

        self.ingress_queue = True

        def action(entry: TcxEntry) -> None:
            entry.miniq = miniq

        self.change(kind, action)

    def uninstall(self) -> None:
        """Take everything off a device that goes away (dev_tcx_uninstall): links stay, without a device."""
        for kind in self.names:
            entry = self.entry(kind)
            if entry is None:
                continue
            for item in entry.mprog.clear():
                if isinstance(item.link, TcxLink):
                    item.link.state = None
                self.note("detach", kind, item)
        self.ingress = self.egress = None

    def note(self, what: str, kind: AttachType, item: MprogItem) -> None:
        """Record an attachment, a detachment or an update, with the order that it leads to."""
        entry = self.entry(kind)
        order = " ".join(str(each.prog.id) for each in entry.mprog.items) if entry is not None else ""
        note(
            self.kernel,
            what,
            f"{self.names[kind]} {what}: program '{item.prog.name}' (id {item.prog.id}), device {self.device.name}",
            {
                "hook": self.names[kind],
                "device": self.device.name,
                "prog_id": item.prog.id,
                "link": item.label,
                "order": order,
                "revision": entry.mprog.revision if entry is not None else 0,
            },
        )


class TcxLink(Link):
    """A link of type tcx (``struct tcx_link``); ``state`` is None once it is off its device."""

    type: ClassVar[LinkType] = LinkType.TCX

    def __init__(self, kernel: AttachKernel, prog: Prog, state: TcxState, kind: AttachType, label: str = "") -> None:
        super().__init__(kernel, prog, kind, label)
        self.objects = kernel
        self.state: TcxState | None = state

    def fill_link_info(self) -> dict[str, object]:
        """Return ``tcx.ifindex`` (0 off the device) and ``tcx.attach_type``."""
        ifindex = self.state.device.ifindex if self.state is not None else 0
        return {"ifindex": ifindex, "attach_type": int(self.attach_type)}

    def update(self, prog: Prog, old: Prog | None = None) -> None:
        """Replace the program: ENOLINK off the device, EPERM when ``old`` is not attached, EEXIST for one there."""
        op, state = "link_update", self.state
        if state is None:
            raise KernelError(op, Errno.ENOLINK, "the device has gone or the link was detached")
        if old is not None and old is not self.prog:
            raise KernelError(op, Errno.EPERM, "the attached program is not the expected one")
        if prog is self.prog:
            return
        entry = state.entry(self.attach_type)
        assert entry is not None
        # the position is given by the id of the program that is replaced, and its type with it
        flags, before = BPF_F_REPLACE | BPF_F_ID, self.prog
        item = entry.mprog.attach(op, self.objects, prog, self, replace=before, flags=flags, id_or_fd=before.id)
        prog.get()
        self.prog = prog
        before.put()
        state.note("update", self.attach_type, item)

    def detach(self) -> None:
        """Leave the device; cannot fail, and does nothing when the link has left it."""
        self.release()

    def release(self) -> None:
        """Leave the device if still on it (tcx_link_release)."""
        state, self.state = self.state, None
        if state is None:
            return
        item = state.change(
            self.attach_type,
            lambda entry: entry.mprog.detach("link_detach", self.objects, self.prog, self),
        )
        assert item is not None
        state.note("detach", self.attach_type, item)


def tcx_link_attach(
    kernel: AttachKernel,
    state: TcxState,
    prog: Prog,
    kind: AttachType,
    *,
    flags: int = 0,
    id_or_fd: int = 0,
    revision: int = 0,
    label: str = "",
) -> TcxLink:
    """Attach a program by a new link and return it with the caller's reference."""
    link = state.link_class(kernel, prog, state, kind, label)
    try:
        item = state.change(
            kind,
            lambda entry: entry.mprog.attach(
                "link_create", kernel, prog, link, flags=flags, id_or_fd=id_or_fd, revision=revision
            ),
        )
    except KernelError:
        # bpf_link_cleanup: its id is used up
        link.state = None
        link.put()
        raise
    assert item is not None
    state.note("attach", kind, item)
    return link


def prog_of_type(kernel: AttachKernel, op: str, fd: int, prog_type: ProgType) -> Prog:
    """Return the program behind a descriptor (bpf_prog_get_type): EBADF, EINVAL."""
    obj: KernelObject | None = kernel.fds.lookup(fd)
    if obj is None:
        raise KernelError(op, Errno.EBADF, f"fd {fd} is not open")
    if not isinstance(obj, Prog) or obj.type != prog_type:
        raise KernelError(op, Errno.EINVAL, f"fd {fd} is no program of type {prog_type.lower}")
    return obj


def points(kernel: AttachKernel) -> Points:
    """Return the rows of BPF_TCX_INGRESS and BPF_TCX_EGRESS."""

    def state_of(op: str, ifindex: int, _kind: AttachType) -> TcxState:
        device: TcxDevice | None = kernel.device_by_ifindex(ifindex)
        if device is None:
            raise KernelError(op, Errno.ENODEV, f"no device with ifindex {ifindex}")
        return device.tcx

    return mprog_points(kernel, HOOKS, state_of)


def mprog_points(
    kernel: AttachKernel, kinds: Iterable[AttachType], state_of: Callable[[str, int, AttachType], TcxState]
) -> Points:
    """Return the rows of hooks of devices that have an order; ``state_of(op, ifindex, kind)`` finds the place."""

    def link_create(kind: AttachType, prog: Prog, ifindex: int, flags: int, opts: Opts) -> TcxLink:
        where = {"id_or_fd": opts.get("relative_fd", 0), "revision": opts.get("expected_revision", 0)}
        return tcx_link_attach(kernel, state_of("link_create", ifindex, kind), prog, kind, flags=flags, **where)

    def attach(kind: AttachType, prog: Prog, ifindex: int, flags: int, opts: Opts) -> None:
        op = "prog_attach"
        state = state_of(op, ifindex, kind)
        replace = None
        if flags & BPF_F_REPLACE:
            replace = prog_of_type(kernel, op, opts.get("replace_bpf_fd", 0), prog.type)
        where = {"id_or_fd": opts.get("relative_fd", 0), "revision": opts.get("expected_revision", 0)}
        item = state.change(
            kind, lambda entry: entry.mprog.attach(op, kernel, prog, replace=replace, flags=flags, **where)
        )
        assert item is not None
        state.note("update" if replace is not None else "attach", kind, item)

    def detach(kind: AttachType, prog_fd: int, ifindex: int, flags: int, opts: Opts) -> None:
        op = "prog_detach"
        state = state_of(op, ifindex, kind)
        prog = prog_of_type(kernel, op, prog_fd, ProgType.SCHED_CLS) if prog_fd else None
        if state.entry(kind) is None:
            raise KernelError(op, Errno.ENOENT, f"nothing is attached to {state.device.name}")
        where = {"id_or_fd": opts.get("relative_fd", 0), "revision": opts.get("expected_revision", 0)}
        item = state.change(kind, lambda entry: entry.mprog.detach(op, kernel, prog, flags=flags, **where))
        assert item is not None
        state.note("detach", kind, item)

    def query(kind: AttachType, ifindex: int, query_flags: int) -> Queried:
        op = "prog_query"
        entry = state_of(op, ifindex, kind).entry(kind)
        if query_flags:
            raise KernelError(op, Errno.EINVAL, f"query_flags {query_flags:#x}")
        return (entry or TcxEntry()).mprog.query()

    return {
        kind: AttachPoint(
            partial(link_create, kind), partial(attach, kind), partial(detach, kind), partial(query, kind)
        )
        for kind in kinds
    }
