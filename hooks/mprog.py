"""Several programs at one place, in an order that users choose (kernel/bpf/mprog.c, v6.18): tcx, netkit.

A request names a position by rules: before or after a program or link, or the ends; in place of a program. Each rule
gives an index by itself; when they do not agree, the request fails. Every change counts the revision up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.objects import FdTable, IdTable, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.flags import BPF_F_AFTER, BPF_F_BEFORE, BPF_F_ID, BPF_F_LINK, BPF_F_REPLACE
from hooks.link import HookStats, Link
from hooks.point import Queried

__all__ = ["BPF_MPROG_MAX", "Mprog", "MprogItem", "Relative"]

BPF_MPROG_MAX = 64 - 1  # include/linux/bpf_mprog.h: the last slot stays empty
NOWHERE = -34  # idx = -ERANGE: no rule has given an index yet


class Objects(Protocol):
    """Where descriptors and ids of programs and links lead."""

    fds: FdTable
    progs: IdTable[Prog]
    links: IdTable[KernelObject]


@dataclass(slots=True)
class MprogItem:
    """One entry: a program that was attached by itself (``link`` is None) or by a link, and what its runs came to."""

    prog: Prog
    link: Link | None = None
    stats: HookStats = field(default_factory=HookStats)

    @property
    def label(self) -> str:
        """The link's name in records."""
        return self.link.label if self.link is not None else ""


@dataclass(frozen=True, slots=True)
class Relative:
    """The program, and perhaps the link, that a position is meant relative to (``struct bpf_tuple``)."""

    prog: Prog | None = None
    link: Link | None = None

    @classmethod
    def find(cls, op: str, objects: Objects, id_or_fd: int, flags: int, prog_type: ProgType | None) -> "Relative":
        """Look up what the caller names: EBADF, ENOENT for ids, EINVAL for others (bpf_mprog_tuple_relative)."""
        want = Link if flags & BPF_F_LINK else Prog
        if want is Prog and not flags & BPF_F_ID and not id_or_fd:
            return cls()
        obj: KernelObject | None
        if flags & BPF_F_ID:
            obj = (objects.links if want is Link else objects.progs).find(id_or_fd)
            if obj is None:
                raise KernelError(op, Errno.ENOENT, f"relative: no {want.__name__.lower()} with id {id_or_fd}")
        elif not id_or_fd:
            raise KernelError(op, Errno.EINVAL, "BPF_F_LINK without a link")
        else:
            obj = objects.fds.lookup(id_or_fd)
            if obj is None:
                raise KernelError(op, Errno.EBADF, f"relative: fd {id_or_fd} is not open")
        if not isinstance(obj, want):
            raise KernelError(op, Errno.EINVAL, f"relative: fd {id_or_fd} is a {type(obj).__name__}")
        prog = obj.prog if isinstance(obj, Link) else obj
        assert isinstance(prog, Prog)
        if prog_type is not None and prog.type != prog_type:
            raise KernelError(op, Errno.EINVAL, f"relative: program '{prog.name}' is of type {prog.type.lower}")
        return cls(prog, obj if isinstance(obj, Link) else None)


class Mprog:
    """The programs of one place, ``items`` in the order in which they run.

    Programs that were attached by themselves are referenced from here, those of links by their links.
    """

    def __init__(self) -> None:
        self.items: list[MprogItem] = []
        self.revision = 1

    def attach(
        self,
        op: str,
        objects: Objects,
        prog: Prog,
        link: Link | None = None,
        *,
        replace: Prog | None = None,
        flags: int = 0,
        id_or_fd: int = 0,
        revision: int = 0,
    ) -> MprogItem:
        """Insert a program, or put it in place of ``replace`` (bpf_mprog_attach), and return its entry."""
        self._check_revision(op, revision)
        if any(item.prog is prog for item in self.items):
            raise KernelError(op, Errno.EEXIST, f"program '{prog.name}' is there already")
        relative = Relative.find(op, objects, id_or_fd, flags & ~BPF_F_REPLACE, prog.type)
        idx = NOWHERE
        if flags & BPF_F_REPLACE:
            idx = self._exact(op, replace, link)
        idx = self._position(op, relative, flags, idx)
        if idx < -1:
            if relative.prog is not None or flags:
                raise KernelError(op, Errno.EINVAL, f"flags {flags:#x} name no position")
            idx, flags = len(self.items), BPF_F_AFTER
        if idx >= BPF_MPROG_MAX or (len(self.items) == BPF_MPROG_MAX and not flags & BPF_F_REPLACE):
            raise KernelError(op, Errno.ERANGE, f"{BPF_MPROG_MAX} programs are the most")
        if flags & BPF_F_REPLACE:
            item = self.items[idx]
            self._replace(item, prog)
        else:
            item = MprogItem(prog, link) if link is None else MprogItem(prog, link, link.stats)
            self.items.insert(idx + 1 if idx < len(self.items) and flags & BPF_F_BEFORE else idx, item)
            if link is None:
                prog.get()
        self.revision += 1
        return item

    def detach(
        self,
        op: str,
        objects: Objects,
        prog: Prog | None = None,
        link: Link | None = None,
        *,
        flags: int = 0,
        id_or_fd: int = 0,
        revision: int = 0,
    ) -> MprogItem:
        """Take a program out, or what is at a position, and return its entry (bpf_mprog_detach)."""
        if flags & BPF_F_REPLACE:
            raise KernelError(op, Errno.EINVAL, "BPF_F_REPLACE")
        self._check_revision(op, revision)
        if not self.items:
            raise KernelError(op, Errno.ENOENT, "nothing is there")
        relative = Relative.find(op, objects, id_or_fd, flags, prog.type if prog is not None else None)
        idx = self._exact(op, prog, link) if prog is not None else NOWHERE
        idx = self._position(op, relative, flags, idx)
        if idx < -1:
            if relative.prog is not None or flags:
                raise KernelError(op, Errno.EINVAL, f"flags {flags:#x} name no position")
            idx = len(self.items)
        if idx >= BPF_MPROG_MAX:
            raise KernelError(op, Errno.ERANGE, f"index {idx}")
        idx = max(0, min(idx, len(self.items) - 1))
        item = self.items[idx]
        if item.link is not None and link is None:
            raise KernelError(op, Errno.EBUSY, f"program '{item.prog.name}' belongs to a link")
        del self.items[idx]
        if item.link is None:
            item.prog.put()
        self.revision += 1
        return item

    def clear(self) -> list[MprogItem]:
        """Take everything out, as when the place goes away, and return the entries."""
        items, self.items = self.items, []
        for item in items:
            if item.link is None:
                item.prog.put()
        return items

    def query(self) -> Queried:
        """Tell what is here (bpf_mprog_query)."""
        nothing = (0,) * len(self.items)
        return Queried(
            prog_ids=tuple(item.prog.id for item in self.items),
            revision=self.revision,
            link_ids=tuple(item.link.id if item.link is not None else 0 for item in self.items),
            prog_attach_flags=nothing,
            link_attach_flags=nothing,
        )

    def _check_revision(self, op: str, revision: int) -> None:
        if revision and revision != self.revision:
            raise KernelError(op, Errno.ESTALE, f"revision {revision} was expected, it is {self.revision}")

    def _replace(self, item: MprogItem, prog: Prog) -> None:
        old, item.prog = item.prog, prog
        if item.link is None:
            prog.get()
            old.put()

    def _exact(self, op: str, prog: Prog | None, link: Link | None) -> int:
        for idx, item in enumerate(self.items):
            if item.prog is prog:
                if item.link is not link:
                    raise KernelError(op, Errno.EBUSY, f"program '{item.prog.name}' belongs to a link")
                return idx
        raise KernelError(op, Errno.ENOENT, f"program '{prog.name if prog is not None else ''}' is not there")

    def _position(self, op: str, relative: Relative, flags: int, idx: int) -> int:
        # bpf_mprog_pos_before() and _after(); what they say must agree with what was said before
        rules: tuple[tuple[int, int, Callable[[], int]], ...] = (
            (BPF_F_BEFORE, -1, lambda: -1),
            (BPF_F_AFTER, 1, lambda: len(self.items)),
        )
        for flag, step, end in rules:
            if not flags & flag:
                continue
            found = end() if relative.prog is None else self._find(op, relative) + step
            if idx >= -1 and found != idx:
                raise KernelError(op, Errno.ERANGE, "the rules of the position do not agree")
            idx = found
        return idx

    def _find(self, op: str, relative: Relative) -> int:
        for idx, item in enumerate(self.items):
            if item.prog is relative.prog and (relative.link is None or item.link is relative.link):
                return idx
        raise KernelError(op, Errno.ENOENT, "the relative program is not there")
