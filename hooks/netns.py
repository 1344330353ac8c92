"""Programs of a network namespace: flow dissector and sk_lookup (kernel/bpf/net_namespace.c, v6.18).

Links are made on a descriptor of the namespace; a flow dissector may also be attached by itself, to the caller's own
namespace, but not beside links. That of the first namespace is for all of them: there is one there, or in others.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import ClassVar

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.objects import KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.link import HookKernel, HookStats, Link, LinkKernel, note
from hooks.point import AttachKernel, AttachPoint, Opts, Points, Queried

__all__ = ["MAX_LINKS", "NetNs", "NetNsLink", "netns_bpf_link_create", "points"]

# netns_bpf_max_progs()
MAX_LINKS: Mapping[AttachType, int] = {AttachType.FLOW_DISSECTOR: 1, AttachType.SK_LOOKUP: 64}
NET_NS_INIT_INO = 0xEFFF_FFF9  # include/uapi/linux/nsfs.h


class NetNs(KernelObject):
    """A network namespace, as descriptors of /proc/PID/ns/net stand for it."""

    def __init__(
        self, kernel: HookKernel, inum: int = NET_NS_INIT_INO, others: Callable[[], Iterable["NetNs"]] = lambda: ()
    ) -> None:
        """``others`` are those that may have no flow dissector beside this one: all, or the first."""
        super().__init__()
        self.others = others
        self.kernel = kernel
        self.inum = inum
        self.progs: dict[AttachType, tuple[Prog, HookStats]] = {}
        self.links: dict[AttachType, list[NetNsLink]] = {kind: [] for kind in MAX_LINKS}

    def running(self, kind: AttachType) -> list[tuple[Prog, HookStats, str]]:
        """Return what runs, in order, with its counters and its link's name."""
        own = self.progs.get(kind)
        alone = [(own[0], own[1], "")] if own is not None else []
        return alone + [(link.prog, link.stats, link.label) for link in self.links[kind]]

    def attach_link(self, link: "NetNsLink") -> None:
        """Enter a link (netns_bpf_link_attach)."""
        op, kind = "link_create", link.attach_type
        if len(self.links[kind]) >= MAX_LINKS[kind]:
            raise KernelError(op, Errno.E2BIG, f"{MAX_LINKS[kind]} links of {kind.kernel_name} are the most")
        if kind in self.progs:
            raise KernelError(op, Errno.EEXIST, "a program is attached without a link")
        self._check_others(op, kind)
        self.links[kind].append(link)
        self.note("attach", kind, link.prog, link.label)

    def prog_attach(self, prog: Prog, kind: AttachType) -> None:
        """Attach a program by itself, in place of another one (netns_bpf_prog_attach)."""
        op = "prog_attach"
        if self.links[kind]:
            raise KernelError(op, Errno.EEXIST, "links are attached")
        if kind != AttachType.FLOW_DISSECTOR:
            raise KernelError(op, Errno.EINVAL, f"{kind.kernel_name} is attached by links")
        old = self.progs.get(kind)
        self._check_others(op, kind)
        if old is not None and old[0] is prog:
            raise KernelError(op, Errno.EINVAL, "it is attached already")
        prog.get()
        self.progs[kind] = (prog, HookStats())
        self.note("update" if old is not None else "attach", kind, prog, "")
        if old is not None:
            old[0].put()

    def _check_others(self, op: str, kind: AttachType) -> None:
        # flow_dissector_bpf_prog_attach_check()
        if kind == AttachType.FLOW_DISSECTOR and any(other.running(kind) for other in self.others()):
            raise KernelError(op, Errno.EEXIST, "a flow dissector is attached to another namespace")

    def prog_detach(self, prog: Prog, kind: AttachType) -> None:
        """Take a program off (netns_bpf_prog_detach)."""
        op = "prog_detach"
        if self.links[kind]:
            raise KernelError(op, Errno.EINVAL, "links are attached")
        old = self.progs.get(kind)
        if old is None or old[0] is not prog:
            raise KernelError(op, Errno.ENOENT, f"program '{prog.name}' is not attached")
        del self.progs[kind]
        self.note("detach", kind, prog, "")
        prog.put()

    def note(self, what: str, kind: AttachType, prog: Prog, label: str) -> None:
        """Record what happened to a hook of the namespace."""
        order = " ".join(str(each.id) for each, _, _ in self.running(kind))
        text = f"{kind.lower} {what}: program '{prog.name}' (id {prog.id})"
        note(self.kernel, what, text, {"hook": kind.lower, "prog_id": prog.id, "link": label, "order": order})


class NetNsLink(Link):
    """A link of type netns (``struct bpf_netns_link``); ``net`` is None once it is off its namespace."""

    type: ClassVar[LinkType] = LinkType.NETNS

    def __init__(self, kernel: LinkKernel, prog: Prog, net: NetNs, kind: AttachType, label: str = "") -> None:
        super().__init__(kernel, prog, kind, label)
        self.net: NetNs | None = net

    def fill_link_info(self) -> dict[str, object]:
        """Return ``netns.netns_ino`` (0 off the namespace) and ``netns.attach_type``."""
        return {"netns_ino": self.net.inum if self.net is not None else 0, "attach_type": int(self.attach_type)}

    def update(self, prog: Prog, old: Prog | None = None) -> None:
        """Replace the program: EPERM when ``old`` is not attached, EINVAL for another type, ENOLINK when detached."""
        op = "link_update"
        if old is not None and old is not self.prog:
            raise KernelError(op, Errno.EPERM, "the attached program is not the expected one")
        if prog.type != self.prog.type:
            raise KernelError(op, Errno.EINVAL, f"program '{prog.name}' is of type {prog.type.lower}")
        if self.net is None:
            raise KernelError(op, Errno.ENOLINK, "the link was detached")
        prog.get()
        before, self.prog = self.prog, prog
        before.put()
        self.net.note("update", self.attach_type, prog, self.label)

    def detach(self) -> None:
        """Leave the namespace; does nothing when the link has left it."""
        self.release()

    def release(self) -> None:
        """Leave the namespace if still there (bpf_netns_link_release)."""
        net, self.net = self.net, None
        if net is not None:
            net.links[self.attach_type].remove(self)
            net.note("detach", self.attach_type, self.prog, self.label)


def netns_bpf_link_create(kernel: LinkKernel, net: NetNs, prog: Prog, kind: AttachType, label: str = "") -> NetNsLink:
    """Attach a program by a new link and return it with the caller's reference."""
    link = NetNsLink(kernel, prog, net, kind, label)
    try:
        net.attach_link(link)
    except KernelError:
        link.net = None
        link.put()
        raise
    return link


def points(kernel: AttachKernel) -> Points:
    """Return the rows of BPF_FLOW_DISSECTOR and BPF_SK_LOOKUP."""

    def own() -> NetNs:
        # of the task that asks
        found: NetNs = getattr(kernel, "current_netns", kernel.netns)
        return found

    def net_of(op: str, fd: int) -> NetNs:
        obj = kernel.fds.lookup(fd)
        if not isinstance(obj, NetNs):
            errno = Errno.EBADF if obj is None else Errno.EINVAL
            raise KernelError(op, errno, f"fd {fd} is no network namespace")
        return obj

    def link_create(kind: AttachType, prog: Prog, fd: int, flags: int, _opts: Opts) -> NetNsLink:
        if flags:
            raise KernelError("link_create", Errno.EINVAL, f"flags {flags:#x}")
        return netns_bpf_link_create(kernel, net_of("link_create", fd), prog, kind)

    def attach(kind: AttachType, prog: Prog, fd: int, flags: int, opts: Opts) -> None:
        if fd or flags or opts.get("replace_bpf_fd"):
            raise KernelError("prog_attach", Errno.EINVAL, "a program goes to the caller's own namespace")
        own().prog_attach(prog, kind)

    def detach(kind: AttachType, prog_fd: int, fd: int, _flags: int, _opts: Opts) -> None:
        op, prog = "prog_detach", kernel.fds.lookup(prog_fd)
        if fd:
            raise KernelError(op, Errno.EINVAL, "a program is taken off the caller's own namespace")
        if not isinstance(prog, Prog) or prog.type != ProgType.FLOW_DISSECTOR:
            raise KernelError(op, Errno.EBADF if prog is None else Errno.EINVAL, f"fd {prog_fd}")
        own().prog_detach(prog, kind)

    def query(kind: AttachType, fd: int, _query_flags: int) -> Queried:
        return Queried(tuple(prog.id for prog, _, _ in net_of("prog_query", fd).running(kind)))

    return {
        AttachType.FLOW_DISSECTOR: AttachPoint(
            partial(link_create, AttachType.FLOW_DISSECTOR),
            partial(attach, AttachType.FLOW_DISSECTOR),
            partial(detach, AttachType.FLOW_DISSECTOR),
            partial(query, AttachType.FLOW_DISSECTOR),
        ),
        AttachType.SK_LOOKUP: AttachPoint(
            partial(link_create, AttachType.SK_LOOKUP), prog_query=partial(query, AttachType.SK_LOOKUP)
        ),
    }
