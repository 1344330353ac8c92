"""Programs on the hooks of netfilter, by links (net/netfilter/nf_bpf_link.c and core.c, v6.18).

A hook's programs run in the order of their priorities; one that returns NF_DROP is the last. Left out: tables, rules
and connection tracking, so nothing else is on a hook, and nothing defragments for a program that asks for it; of a
namespace's hooks, those of the host's own.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.link import Link, LinkKernel, note
from hooks.point import AttachKernel, AttachPoint, Opts, Points

__all__ = ["HOOKS", "NFPROTO_IPV4", "NFPROTO_IPV6", "Netfilter", "NetfilterLink", "points"]

OP = "link_create"
NFPROTO_IPV4, NFPROTO_IPV6 = 2, 10
# enum nf_inet_hooks
HOOKS = {"PRE_ROUTING": 0, "LOCAL_IN": 1, "FORWARD": 2, "LOCAL_OUT": 3, "POST_ROUTING": 4}
MAX_HOOK_COUNT = 1024
INT_MIN, INT_MAX = -(1 << 31), (1 << 31) - 1  # NF_IP_PRI_FIRST, NF_IP_PRI_LAST
NF_IP_PRI_CONNTRACK_DEFRAG = -400
BPF_F_NETFILTER_IP_DEFRAG = 1 << 0


class NetfilterLink(Link):
    """A link of type netfilter (``struct bpf_nf_link``)."""

    type: ClassVar[LinkType] = LinkType.NETFILTER

    def __init__(
        self, kernel: LinkKernel, prog: Prog, owner: "Netfilter", place: tuple[int, int, int], flags: int, label: str
    ) -> None:
        super().__init__(kernel, prog, AttachType.NETFILTER, label)
        self.pf, self.hooknum, self.priority = place
        self.flags = flags
        self.owner: Netfilter | None = owner

    def fill_link_info(self) -> dict[str, object]:
        """Return the fields of ``netfilter``."""
        return {"pf": self.pf, "hooknum": self.hooknum, "priority": self.priority, "flags": self.flags}

    def update(self, prog: Prog, old: Prog | None = None) -> None:
        """Refuse: EOPNOTSUPP."""
        raise KernelError("link_update", Errno.EOPNOTSUPP, "a link of netfilter keeps its program")

    def detach(self) -> None:
        """Leave the hook."""
        self.release()

    def release(self) -> None:
        """Leave the hook if still on it."""
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.remove(self)


class Netfilter:
    """The programs on the hooks of one kernel, by protocol family and hook, the lowest priority first."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self._hooks: dict[tuple[int, int], list[NetfilterLink]] = {}

    def running(self, pf: int, hooknum: int) -> list[NetfilterLink]:
        """Return what runs at a hook, in order."""
        return self._hooks.get((pf, hooknum), [])

    def attach(
        self, prog: Prog, pf: int, hooknum: int, priority: int = 0, flags: int = 0, label: str = ""
    ) -> NetfilterLink:
        """Attach a program to a hook by a link: EAFNOSUPPORT, EPROTO, EOPNOTSUPP, ERANGE, EBUSY, E2BIG."""
        if pf not in (NFPROTO_IPV4, NFPROTO_IPV6):
            raise KernelError(OP, Errno.EAFNOSUPPORT, f"protocol family {pf}")
        if not 0 <= hooknum < len(HOOKS):
            raise KernelError(OP, Errno.EPROTO, f"hook {hooknum}")
        if flags & ~BPF_F_NETFILTER_IP_DEFRAG:
            raise KernelError(OP, Errno.EOPNOTSUPP, f"flags {flags:#x}")
        if priority in (INT_MIN, INT_MAX) or (flags and priority <= NF_IP_PRI_CONNTRACK_DEFRAG):
            raise KernelError(OP, Errno.ERANGE, f"priority {priority}")
        if flags:
            raise NotModelled("BPF_F_NETFILTER_IP_DEFRAG", "net/ipv4/netfilter/nf_defrag_ipv4.c")
        chain = self._hooks.setdefault((pf, hooknum), [])
        link = NetfilterLink(self.kernel, prog, self, (pf, hooknum, priority), flags, label)
        if any(each.priority == priority for each in chain) or len(chain) >= MAX_HOOK_COUNT:
            errno = Errno.EBUSY if len(chain) < MAX_HOOK_COUNT else Errno.E2BIG
            link.owner = None
            link.put()
            raise KernelError(OP, errno, f"priority {priority} has a program")
        at = sum(each.priority < priority for each in chain)
        chain.insert(at, link)
        self._note("attach", link)
        return link

    def remove(self, link: NetfilterLink) -> None:
        """Take a link off its hook."""
        self.running(link.pf, link.hooknum).remove(link)
        self._note("detach", link)

    def _note(self, kind: str, link: NetfilterLink) -> None:
        name = next(name for name, number in HOOKS.items() if number == link.hooknum)
        order = " ".join(str(each.prog.id) for each in self.running(link.pf, link.hooknum))
        text = f"netfilter {kind}: program '{link.prog.name}' (id {link.prog.id}), {name} priority {link.priority}"
        details: dict[str, int | str] = {
            "hook": "netfilter", "target": name, "prog_id": link.prog.id, "link": link.label, "order": order,
        }  # fmt: skip
        note(self.kernel, kind, text, details)


def points(kernel: AttachKernel, netfilter: Callable[[], Netfilter]) -> Points:
    """Return the row of BPF_NETFILTER; further fields: ``pf``, ``hooknum``, ``priority``, ``flags``."""

    def link_create(prog: Prog, _target: int, flags: int, opts: Opts) -> NetfilterLink:
        if flags:
            raise KernelError(OP, Errno.EINVAL, f"flags {flags:#x}")
        if prog.type != ProgType.NETFILTER:
            raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' is of type {prog.type.lower}")
        priority = opts.get("priority", 0)
        priority = priority - (1 << 32) if priority > INT_MAX else priority
        place = opts.get("pf", 0), opts.get("hooknum", 0), priority
        return netfilter().attach(prog, *place, opts.get("netfilter_flags", 0))

    return {AttachType.NETFILTER: AttachPoint(link_create=link_create)}
