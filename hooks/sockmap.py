"""Programs of sockmaps and sockhashes: sk_msg, and the parser and verdicts of sk_skb (net/core/sock_map.c, v6.18).

A map has one program of each kind; a socket that joins it takes them over and keeps them. ``netstack.skmsg`` and
``netstack.skb_verdict`` run them.
"""

from functools import partial
from typing import Any, ClassVar

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map
from ebpfsim.maps.sockmap import SockhashMap, SockmapMap
from ebpfsim.objects import KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.link import HookStats, Link, note
from hooks.point import AttachKernel, AttachPoint, Opts, Points, Queried

__all__ = ["SockmapLink", "hook_of", "points"]

Sockmap = SockmapMap | SockhashMap
SK_SKB_STREAM_VERDICT, SK_SKB_VERDICT = AttachType.SK_SKB_STREAM_VERDICT, AttachType.SK_SKB_VERDICT
PROG_TYPES = {
    AttachType.SK_MSG_VERDICT: ProgType.SK_MSG,
    AttachType.SK_SKB_STREAM_PARSER: ProgType.SK_SKB,
    SK_SKB_STREAM_VERDICT: ProgType.SK_SKB,
    SK_SKB_VERDICT: ProgType.SK_SKB,
}
# of the two verdicts a map has one
OTHER_VERDICT = {SK_SKB_STREAM_VERDICT: SK_SKB_VERDICT, SK_SKB_VERDICT: SK_SKB_STREAM_VERDICT}


class SockmapLink(Link):
    """A link of type sockmap (``struct sockmap_link``); ``map`` is None once it is off its map."""

    type: ClassVar[LinkType] = LinkType.SOCKMAP

    def __init__(self, kernel: AttachKernel, prog: Prog, map_: Sockmap, kind: AttachType) -> None:
        super().__init__(kernel, prog, kind)
        self.objects = kernel
        self.map: Sockmap | None = map_
        map_.get()

    def fill_link_info(self) -> dict[str, object]:
        """Return the map's id, 0 once the link is off, and the attach type."""
        return {"map_id": self.map.id if self.map is not None else 0, "attach_type": int(self.attach_type)}

    def update(self, prog: Prog, old: Prog | None = None) -> None:
        """Replace the program: EPERM, EINVAL for another type, ENOLINK, ENOENT (``sock_map_link_update_prog``)."""
        op = "link_update"
        if old is not None and old is not self.prog:
            raise KernelError(op, Errno.EPERM, "the attached program is not the expected one")
        if (prog.type, prog.expected_attach_type) != (self.prog.type, self.prog.expected_attach_type):
            raise KernelError(op, Errno.EINVAL, "the program is of another type")
        if self.map is None:
            raise KernelError(op, Errno.ENOLINK, "the link was detached")
        _check_kind(op, self.map, self.attach_type)
        before, self.prog = self.prog, prog
        prog.get()
        self.map.progs[self.attach_type] = prog
        before.put()
        _note(self.objects, "update", self.map, self.attach_type, prog, self.label)

    def detach(self) -> None:
        """Leave the map; cannot fail."""
        self.release()

    def release(self) -> None:
        """Leave the map if still on it."""
        map_, self.map = self.map, None
        if map_ is None:
            return
        del map_.progs[self.attach_type], map_.links[self.attach_type]
        _note(self.objects, "detach", map_, self.attach_type, self.prog, self.label)
        map_.put()


def hook_of(map_: Any, kind: AttachType) -> tuple[HookStats, str]:
    """Return the counters and the name of what attaches a map's program of a kind."""
    link = map_.links.get(kind)
    if link is not None:
        return link.stats, link.label
    return map_.stats.setdefault(kind, HookStats()), ""


def _check_kind(op: str, map_: Map, kind: AttachType) -> None:
    # sock_map_prog_link_lookup()
    if not isinstance(map_, Sockmap):
        raise KernelError(op, Errno.EOPNOTSUPP, f"map '{map_.name}' is a {map_.type.lower}")
    if OTHER_VERDICT.get(kind) in map_.progs:
        raise KernelError(op, Errno.EBUSY, "the map has a verdict of the other kind")


def _note(kernel: AttachKernel, what: str, map_: Map, kind: AttachType, prog: Prog, label: str) -> None:
    text = f"{kind.lower} {what}: program '{prog.name}' (id {prog.id}), map '{map_.name}'"
    details: dict[str, int | str] = {"hook": kind.lower, "map_id": map_.id, "prog_id": prog.id, "link": label}
    note(kernel, what, text, details)


def points(kernel: AttachKernel) -> Points:
    """Return the rows of BPF_SK_MSG_VERDICT and of the three of sk_skb."""

    def map_of(op: str, fd: int) -> Map:
        obj = kernel.fds.lookup(fd)
        if obj is None:
            raise KernelError(op, Errno.EBADF, f"fd {fd} is not open")
        if not isinstance(obj, Map):
            raise KernelError(op, Errno.EINVAL, f"fd {fd} is a {type(obj).__name__}, expected a map")
        return obj

    def free_place(op: str, map_: Map, kind: AttachType) -> Sockmap:
        _check_kind(op, map_, kind)
        assert isinstance(map_, Sockmap)
        if kind in map_.links:
            raise KernelError(op, Errno.EBUSY, "a link attaches a program there")
        return map_

    def link_create(kind: AttachType, prog: Prog, target: int, flags: int, _opts: Opts) -> SockmapLink:
        op = "link_create"
        if flags:
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
        map_ = map_of(op, target)
        if not isinstance(map_, Sockmap):
            raise KernelError(op, Errno.EINVAL, f"map '{map_.name}' is a {map_.type.lower}")
        link = SockmapLink(kernel, prog, map_, kind)
        try:
            free_place(op, map_, kind)
        except KernelError:
            # bpf_link_cleanup: its id is used up
            link.map = None
            map_.put()
            link.put()
            raise
        old = map_.progs.pop(kind, None)
        map_.progs[kind], map_.links[kind] = prog, link
        if old is not None:
            old.put()
        _note(kernel, "attach", map_, kind, prog, link.label)
        return link

    def attach(kind: AttachType, prog: Prog, target: int, flags: int, opts: Opts) -> None:
        # sock_map_get_from_fd()
        op = "prog_attach"
        if flags or opts.get("replace_bpf_fd"):
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
        map_ = free_place(op, map_of(op, target), kind)
        prog.get()
        old = map_.progs.get(kind)
        map_.progs[kind] = prog
        _note(kernel, "attach" if old is None else "update", map_, kind, prog, "")
        if old is not None:
            old.put()

    def detach(kind: AttachType, prog_fd: int, target: int, flags: int, opts: Opts) -> None:
        op = "prog_detach"
        if flags or opts.get("replace_bpf_fd"):
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
        found = map_of(op, target)
        prog: KernelObject | None = kernel.fds.lookup(prog_fd)
        if prog is None:
            raise KernelError(op, Errno.EBADF, f"fd {prog_fd} is not open")
        if not isinstance(prog, Prog) or prog.type != PROG_TYPES[kind]:
            raise KernelError(op, Errno.EINVAL, f"fd {prog_fd} is no program of type {PROG_TYPES[kind].lower}")
        map_ = free_place(op, found, kind)
        if map_.progs.get(kind) != prog:
            raise KernelError(op, Errno.ENOENT, f"program '{prog.name}' is not attached")
        del map_.progs[kind]
        _note(kernel, "detach", map_, kind, prog, "")
        prog.put()

    def query(kind: AttachType, target: int, query_flags: int) -> Queried:
        op = "prog_query"
        if query_flags:
            raise KernelError(op, Errno.EINVAL, f"query_flags {query_flags:#x}")
        map_ = map_of(op, target)
        _check_kind(op, map_, kind)
        assert isinstance(map_, Sockmap)
        prog = map_.progs.get(kind)
        return Queried(prog_ids=(prog.id,) if prog is not None else ())

    return {
        kind: AttachPoint(
            partial(link_create, kind), partial(attach, kind), partial(detach, kind), partial(query, kind)
        )
        for kind in PROG_TYPES
    }
