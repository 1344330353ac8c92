"""Programs of control groups: effective arrays, flags, order, links (kernel/bpf/cgroup.c, v6.18).

A cgroup has for each attach type a list of what is attached to it, and an effective array that is computed from its own
list and those of its ancestors: with BPF_F_ALLOW_MULTI its own programs and then its parents', with
BPF_F_ALLOW_OVERRIDE those of the nearest cgroup that has one. Programs with BPF_F_PREORDER run before all others, those
of ancestors first. Left out: resource controllers, cgroup v1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import ClassVar, Protocol

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.cgroup_storage import CgroupStorageMap
from ebpfsim.memory import Memory
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, LinkType, MapType
from ebpfsim.uapi.flags import (
    BPF_F_AFTER,
    BPF_F_ALLOW_MULTI,
    BPF_F_ALLOW_OVERRIDE,
    BPF_F_BEFORE,
    BPF_F_ID,
    BPF_F_LINK,
    BPF_F_PREORDER,
    BPF_F_REPLACE,
)
from hooks.cgroup_struct import CgroupStruct
from hooks.link import HookKernel, HookStats, Link, note
from hooks.mprog import Relative
from hooks.point import AttachKernel, AttachPoint, Opts, Points, Queried

__all__ = ["BPF_CGROUP_MAX_PROGS", "Cgroup", "CgroupItem", "CgroupLink", "CgroupTree", "cgroup_link_attach", "points"]

BPF_CGROUP_MAX_PROGS = 64
BPF_F_QUERY_EFFECTIVE = 1 << 0
LINK_FLAGS = BPF_F_ID | BPF_F_BEFORE | BPF_F_AFTER | BPF_F_PREORDER | BPF_F_LINK
ROOT_ID = 1  # cgroup_id() of the root: the inode number of its directory


class LsmKey(Protocol):
    """What arrays of programs of the LSM go by: a hook of it (``hooks.lsm_cgroup``)."""

    @property
    def lower(self) -> str:
        """The attach type in lower case."""
        ...

    def changed(self) -> None:
        """Hear that arrays have changed."""
        ...


Key = AttachType | LsmKey

ATTACH_TYPES = tuple(kind for kind in AttachType if kind.name.startswith("CGROUP_"))


@dataclass(eq=False, slots=True)
class CgroupItem:
    """One entry of a cgroup's list (``struct bpf_prog_list``): a program by itself, or that of a link."""

    own: Prog | None
    link: "CgroupLink | None"
    flags: int
    stats: HookStats = field(default_factory=HookStats)
    # whose list it is in, which its values of maps belong to
    cgroup_id: int = 0

    @property
    def storages(self) -> list[CgroupStorageMap]:
        """The maps of its program that have a value for each attachment."""
        return [map_ for map_ in self.prog.maps if isinstance(map_, CgroupStorageMap)]

    @property
    def prog(self) -> Prog:
        """The program."""
        found = self.link.prog if self.link is not None else self.own
        assert found is not None
        return found

    @property
    def label(self) -> str:
        """The link's name in records."""
        return self.link.label if self.link is not None else ""


class CgroupKernel(HookKernel, Protocol):
    """What cgroups need of their kernel."""

    mem: Memory
    cgroups: "CgroupTree"

    def forget_owner(self, kind: MapType, address: int) -> None:
        """Remove what maps of a type have of an owner that goes."""
        ...


class Cgroup(KernelObject):
    """One control group; ``path`` begins at the root of the hierarchy, which is ``/``.

    A descriptor of its directory is what programs are attached by.
    """

    fd_kind = FdKind.CGROUP

    def __init__(self, kernel: CgroupKernel, path: str, parent: "Cgroup | None", cgroup_id: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.path = path
        self.parent = parent
        self.cgroup_id = cgroup_id
        self.children: list[Cgroup] = []
        self.progs: dict[Key, list[CgroupItem]] = {}
        self.flags: dict[Key, int] = {}
        self.revisions: dict[Key, int] = {}
        self.effective: dict[Key, tuple[CgroupItem, ...]] = {}
        self.dead = False
        # how many tasks are in it
        self.tasks = 0

    def __repr__(self) -> str:
        return f"<Cgroup {self.path}>"

    @cached_property
    def struct(self) -> CgroupStruct:
        """``struct cgroup`` in RAM, made when first asked for."""
        above = [group.struct for group in self.parent.ancestors()] if self.parent is not None else []
        name = self.path.rsplit("/", 1)[1] if self.parent is not None else ""
        made = CgroupStruct.make(self.kernel.mem, self.cgroup_id, name, above[::-1])
        self.kernel.cgroups.by_address[made.address] = self
        return made

    @property
    def storage_owner(self) -> int:
        """What values of maps belong to: the address of ``struct cgroup``."""
        return self.struct.address

    def is_under(self, other: "Cgroup") -> bool:
        """Whether this is another cgroup or below it (cgroup_is_descendant)."""
        return any(group is other for group in self.ancestors())

    def on_release(self) -> None:
        """Free the structure (css_free_rwork_fn)."""
        self._forget()

    def ancestors(self) -> Iterator["Cgroup"]:
        """Yield this cgroup, its parent, and so on up to the root."""
        group: Cgroup | None = self
        while group is not None:
            yield group
            group = group.parent

    def descendants(self) -> Iterator["Cgroup"]:
        """Yield this cgroup and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.descendants()

    def items(self, kind: Key) -> list[CgroupItem]:
        """Return the list of an attach type, to be changed."""
        return self.progs.setdefault(kind, [])

    def attach(
        self,
        op: str,
        kernel: AttachKernel,
        kind: Key,
        prog: Prog | None = None,
        link: "CgroupLink | None" = None,
        *,
        replace: Prog | None = None,
        flags: int = 0,
        id_or_fd: int = 0,
        revision: int = 0,
    ) -> CgroupItem:
        """Attach a program or a link and tell all cgroups below (``__cgroup_bpf_attach``)."""
        saved = flags & (BPF_F_ALLOW_OVERRIDE | BPF_F_ALLOW_MULTI)
        self._check_flags(op, flags, replace)
        items = self.items(kind)
        self._check_revision(op, kind, revision)
        if not self._hierarchy_allows(kind):
            raise KernelError(op, Errno.EPERM, f"a cgroup above '{self.path}' has a program that cannot be overridden")
        if items and self.flags.get(kind, 0) != saved:
            raise KernelError(op, Errno.EPERM, f"programs of '{self.path}' were attached with other flags")
        if len(items) >= BPF_CGROUP_MAX_PROGS:
            raise KernelError(op, Errno.E2BIG, f"{BPF_CGROUP_MAX_PROGS} programs are the most")
        old = self._find(op, items, prog, link, replace, multi=bool(flags & BPF_F_ALLOW_MULTI))
        new = CgroupItem(prog, link, flags, cgroup_id=self.cgroup_id)
        if link is not None:
            new.stats = link.stats
        if old is not None:
            items[items.index(old)] = new
        else:
            items.insert(self._position(op, kernel, items, new.prog, flags, id_or_fd), new)
        if isinstance(kind, AttachType):
            for map_ in new.storages:
                map_.attach(self.cgroup_id, kind)
        if prog is not None:
            prog.get()
        if old is not None:
            self._drop_storages(kind, old)
        if old is not None and old.own is not None:
            old.own.put()
        self.flags[kind] = saved
        self.revisions[kind] = self.revisions.get(kind, 1) + 1
        self.update_effective_progs(kind)
        self._note("update" if old is not None else "attach", kind, new)
        return new

    def detach(
        self, op: str, kind: Key, prog: Prog | None = None, link: "CgroupLink | None" = None, revision: int = 0
    ) -> None:
        """Take a program or a link off (``__cgroup_bpf_detach``); without ALLOW_MULTI whatever is there."""
        items = self.items(kind)
        self._check_revision(op, kind, revision)
        if not self.flags.get(kind, 0) & BPF_F_ALLOW_MULTI:
            found = items[0] if items else None
        elif prog is None and link is None:
            raise KernelError(op, Errno.EINVAL, "which of several programs")
        else:
            found = next((each for each in items if each.own is prog and each.link is link), None)
        if found is None:
            raise KernelError(op, Errno.ENOENT, f"it is not attached to '{self.path}'")
        items.remove(found)
        self._drop_storages(kind, found)
        if not items:
            self.flags[kind] = 0
        self.revisions[kind] = self.revisions.get(kind, 1) + 1
        self.update_effective_progs(kind)
        self._note("detach", kind, found)
        if found.own is not None:
            found.own.put()

    def _drop_storages(self, kind: Key, item: CgroupItem) -> None:
        # values that no other attachment of this group shares (bpf_cgroup_storages_unlink)
        if not isinstance(kind, AttachType):
            return
        for map_ in item.storages:
            kinds = [kind] if map_.by_attach_type else list(self.progs)
            if not any(map_ in other.storages for each in kinds for other in self.progs.get(each, ())):
                map_.detach(self.cgroup_id, kind)

    def replaced(self, kind: Key, link: "CgroupLink") -> None:
        """Note that a link has another program; it keeps its place in every array."""
        self.revisions[kind] = self.revisions.get(kind, 1) + 1
        self._note("update", kind, next(each for each in self.items(kind) if each.link is link))

    def update_effective_progs(self, kind: Key) -> None:
        """Compute the arrays of this cgroup and all below it anew."""
        for group in self.descendants():
            items = group.compute_effective_progs(kind)
            if items:
                group.effective[kind] = items
            else:
                group.effective.pop(kind, None)
        if not isinstance(kind, AttachType):
            kind.changed()

    def compute_effective_progs(self, kind: Key) -> tuple[CgroupItem, ...]:
        """Return what runs for members of this cgroup, in order."""
        ordered: list[CgroupItem] = []
        first: list[CgroupItem] = []
        for group in self.ancestors():
            if (ordered or first) and not group.flags.get(kind, 0) & BPF_F_ALLOW_MULTI:
                continue
            items = group.progs.get(kind, ())
            first = [each for each in items if each.flags & BPF_F_PREORDER] + first
            ordered += [each for each in items if not each.flags & BPF_F_PREORDER]
        return (*first, *ordered)

    def query(self, kind: Key, query_flags: int) -> Queried:
        """Tell what is attached here, or what runs for its members (``__cgroup_bpf_query``)."""
        effective = bool(query_flags & BPF_F_QUERY_EFFECTIVE)
        items = self.effective.get(kind, ()) if effective else tuple(self.items(kind))
        flags = 0 if effective else self.flags.get(kind, 0)
        return Queried(
            prog_ids=tuple(each.prog.id for each in items),
            attach_flags=flags,
            revision=0 if effective else self.revisions.get(kind, 1),
            prog_attach_flags=() if effective else (flags,) * len(items),
        )

    def offline(self) -> None:
        """Let go of everything when the cgroup is removed (cgroup_bpf_release): links stay, detached."""
        self.dead = True
        for kind, items in self.progs.items():
            gone = list(items)
            items.clear()
            for each in gone:
                self._drop_storages(kind, each)
                self._note("detach", kind, each)
                if each.link is not None:
                    each.link.cgroup = None
                if each.own is not None:
                    each.own.put()
            if not isinstance(kind, AttachType):
                kind.changed()
        self.effective.clear()
        self._forget()

    def _forget(self) -> None:
        made = self.__dict__.pop("struct", None)
        if made is not None:
            self.kernel.forget_owner(MapType.CGRP_STORAGE, made.address)
            del self.kernel.cgroups.by_address[made.address]
            made.release()

    def _check_flags(self, op: str, flags: int, replace: Prog | None) -> None:
        several = flags & BPF_F_ALLOW_OVERRIDE and flags & BPF_F_ALLOW_MULTI
        alone = flags & BPF_F_REPLACE and not flags & BPF_F_ALLOW_MULTI
        moved = flags & BPF_F_REPLACE and flags & (BPF_F_BEFORE | BPF_F_AFTER)
        if several or alone or moved or bool(flags & BPF_F_REPLACE) != (replace is not None):
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x} do not go together")

    def _check_revision(self, op: str, kind: Key, revision: int) -> None:
        has = self.revisions.get(kind, 1)
        if revision and revision != has:
            raise KernelError(op, Errno.ESTALE, f"revision {revision} was expected, it is {has}")

    def _hierarchy_allows(self, kind: Key) -> bool:
        # a program above without flags forbids all below it
        for group in list(self.ancestors())[1:]:
            flags = group.flags.get(kind, 0)
            if flags & BPF_F_ALLOW_MULTI:
                return True
            if group.items(kind):
                return bool(flags & BPF_F_ALLOW_OVERRIDE)
        return True

    def _find(
        self,
        op: str,
        items: list[CgroupItem],
        prog: Prog | None,
        link: "CgroupLink | None",
        replace: Prog | None,
        *,
        multi: bool,
    ) -> CgroupItem | None:
        # find_attach_entry(): what is replaced; None to add another entry
        if not multi:
            return items[0] if items else None
        for each in items:
            if (prog is not None and each.own is prog and prog is not replace) or (
                link is not None and each.link is link
            ):
                raise KernelError(op, Errno.EINVAL, "it is attached already")
        if replace is None:
            return None
        found = next((each for each in items if each.own is replace), None)
        if found is None:
            raise KernelError(op, Errno.ENOENT, f"program '{replace.name}' is not attached")
        return found

    def _position(
        self, op: str, kernel: AttachKernel, items: list[CgroupItem], prog: Prog, flags: int, id_or_fd: int
    ) -> int:
        # get_prog_list(), insert_pl_to_hlist()
        ends = flags & (BPF_F_BEFORE | BPF_F_AFTER)
        named = flags & (BPF_F_LINK | BPF_F_ID) or id_or_fd
        if (named and not ends) or (not named and items and ends == BPF_F_BEFORE | BPF_F_AFTER):
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x} name no position")
        anchor = Relative.find(op, kernel, id_or_fd, flags, prog.type)
        if anchor.prog is None:
            return 0 if flags & BPF_F_BEFORE else len(items)
        for at, each in enumerate(items):
            if each.link is not anchor.link or (anchor.link is None and each.own is not anchor.prog):
                continue
            if bool(each.flags & BPF_F_PREORDER) != bool(flags & BPF_F_PREORDER):
                raise KernelError(op, Errno.EINVAL, "one runs before all others, the other one does not")
            return at if flags & BPF_F_BEFORE else at + 1
        raise KernelError(op, Errno.ENOENT, "the relative program is not attached")

    def _note(self, what: str, kind: Key, item: CgroupItem) -> None:
        order = " ".join(str(each.prog.id) for each in self.effective.get(kind, ()))
        note(
            self.kernel,
            what,
            f"{kind.lower} {what}: program '{item.prog.name}' (id {item.prog.id}), cgroup {self.path}",
            {
                "hook": kind.lower,
                "cgroup": self.path,
                "prog_id": item.prog.id,
                "link": item.label,
                "order": order,
                "revision": self.revisions.get(kind, 1),
            },
        )


class CgroupTree:
    """The hierarchy of one simulated kernel."""

    def __init__(self, kernel: CgroupKernel) -> None:
        self._kernel = kernel
        self.root = Cgroup(kernel, "/", None, ROOT_ID)
        self._next_id = ROOT_ID + 1
        self._by_path = {"/": self.root}
        # those whose structure somebody asked for
        self.by_address: dict[int, Cgroup] = {}

    def of_id(self, cgroup_id: int) -> Cgroup | None:
        """Return the cgroup with an id, or None (cgroup_get_from_id)."""
        return next((group for group in self._by_path.values() if group.cgroup_id == cgroup_id), None)

    def find(self, path: str) -> Cgroup | None:
        """Return the cgroup of a path, or None."""
        return self._by_path.get(_normal(path))

    def mkdir(self, path: str) -> Cgroup:
        """Return the cgroup of a path, made with all that is missing above it."""
        path = _normal(path)
        found = self._by_path.get(path)
        if found is not None:
            return found
        parent = self.mkdir(path.rsplit("/", 1)[0] or "/")
        group = self._by_path[path] = Cgroup(self._kernel, path, parent, self._next_id)
        self._next_id += 1
        parent.children.append(group)
        for kind in parent.effective:
            group.effective[kind] = group.compute_effective_progs(kind)
        return group

    def rmdir(self, path: str) -> None:
        """Remove a cgroup without children and tasks: ENOENT, EBUSY."""
        group = self.find(path)
        if group is None or group is self.root:
            raise KernelError("rmdir", Errno.ENOENT if group is None else Errno.EBUSY, path)
        if group.children:
            raise KernelError("rmdir", Errno.EBUSY, f"'{path}' has children")
        if group.tasks:
            raise KernelError("rmdir", Errno.EBUSY, f"'{path}' has tasks")
        assert group.parent is not None
        group.parent.children.remove(group)
        del self._by_path[group.path]
        group.offline()


def _normal(path: str) -> str:
    return "/" + "/".join(part for part in path.removeprefix("/sys/fs/cgroup").split("/") if part)


class CgroupLink(Link):
    """A link of type cgroup (``struct bpf_cgroup_link``); ``cgroup`` is None once it is off its cgroup."""

    type: ClassVar[LinkType] = LinkType.CGROUP

    def __init__(
        self,
        kernel: AttachKernel,
        prog: Prog,
        cgroup: Cgroup,
        kind: AttachType,
        label: str = "",
        key: LsmKey | None = None,
    ) -> None:
        super().__init__(kernel, prog, kind, label)
        self.key: Key = kind if key is None else key
        self.cgroup: Cgroup | None = cgroup

    def fill_link_info(self) -> dict[str, object]:
        """Return ``cgroup.cgroup_id`` (0 off the cgroup) and ``cgroup.attach_type``."""
        cgroup_id = self.cgroup.cgroup_id if self.cgroup is not None else 0
        return {"cgroup_id": cgroup_id, "attach_type": int(self.attach_type)}

    def update(self, prog: Prog, old: Prog | None = None) -> None:
        """Replace the program: ENOLINK off the cgroup, EPERM when ``old`` is not attached, EINVAL for another type."""
        op, cgroup = "link_update", self.cgroup
        if cgroup is None:
            raise KernelError(op, Errno.ENOLINK, "the cgroup has gone or the link was detached")
        if old is not None and old is not self.prog:
            raise KernelError(op, Errno.EPERM, "the attached program is not the expected one")
        if prog.type != self.prog.type:
            raise KernelError(op, Errno.EINVAL, f"program '{prog.name}' is of type {prog.type.lower}")
        if self.key is not self.attach_type and not _same_hook(prog, self.prog):
            raise KernelError(op, Errno.EINVAL, f"program '{prog.name}' is for another hook")
        prog.get()
        before, self.prog = self.prog, prog
        before.put()
        cgroup.replaced(self.key, self)

    def detach(self) -> None:
        """Leave the cgroup; cannot fail, and does nothing when the link has left it."""
        self.release()

    def release(self) -> None:
        """Leave the cgroup if still on it."""
        cgroup, self.cgroup = self.cgroup, None
        if cgroup is not None:
            cgroup.detach("link_detach", self.key, None, self)


def cgroup_link_attach(
    kernel: AttachKernel,
    cgroup: Cgroup,
    prog: Prog,
    kind: AttachType,
    *,
    key: LsmKey | None = None,
    flags: int = 0,
    id_or_fd: int = 0,
    revision: int = 0,
    label: str = "",
) -> CgroupLink:
    """Attach a program by a new link (BPF_F_ALLOW_MULTI) and return it with the caller's reference."""
    link = CgroupLink(kernel, prog, cgroup, kind, label, key)
    try:
        cgroup.attach(
            "link_create", kernel, link.key, None, link,
            flags=BPF_F_ALLOW_MULTI | flags, id_or_fd=id_or_fd, revision=revision,
        )  # fmt: skip
    except KernelError:
        link.cgroup = None
        link.put()
        raise
    return link


def _same_hook(first: Prog, second: Prog) -> bool:
    one, other = first.attach_target, second.attach_target
    return one is not None and other is not None and one.id == other.id


def group_of(kernel: AttachKernel, op: str, fd: int) -> Cgroup:
    """Return the cgroup behind a descriptor: EBADF, ENOENT for one that was removed."""
    obj = kernel.fds.lookup(fd)
    if not isinstance(obj, Cgroup) or obj.dead:
        errno = Errno.ENOENT if isinstance(obj, Cgroup) else Errno.EBADF
        raise KernelError(op, errno, f"fd {fd} is no cgroup")
    return obj


def points(kernel: AttachKernel) -> Points:
    """Return the rows of all cgroup attach types."""

    def link_create(kind: AttachType, prog: Prog, fd: int, flags: int, opts: Opts) -> CgroupLink:
        op = "link_create"
        if flags & ~LINK_FLAGS:
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
        where = {"id_or_fd": opts.get("relative_fd", 0), "revision": opts.get("expected_revision", 0)}
        return cgroup_link_attach(kernel, group_of(kernel, op, fd), prog, kind, flags=flags, **where)

    def attach(kind: AttachType, prog: Prog, fd: int, flags: int, opts: Opts) -> None:
        op = "prog_attach"
        cgroup, replace = group_of(kernel, op, fd), None
        if flags & BPF_F_ALLOW_MULTI and flags & BPF_F_REPLACE:
            replace = replaced_prog(kernel, op, opts.get("replace_bpf_fd", 0), prog)
        where = {"id_or_fd": opts.get("relative_fd", 0), "revision": opts.get("expected_revision", 0)}
        cgroup.attach(op, kernel, kind, prog, replace=replace, flags=flags, **where)

    def detach(kind: AttachType, prog_fd: int, fd: int, _flags: int, opts: Opts) -> None:
        # a descriptor that is no program is as good as none
        prog = kernel.fds.lookup(prog_fd) if prog_fd else None
        cgroup = group_of(kernel, "prog_detach", fd)
        cgroup.detach(
            "prog_detach", kind, prog if isinstance(prog, Prog) else None, revision=opts.get("expected_revision", 0)
        )

    def query(kind: AttachType, fd: int, query_flags: int) -> Queried:
        return group_of(kernel, "prog_query", fd).query(kind, query_flags)

    def row(kind: AttachType) -> AttachPoint:
        makers: tuple[Callable[..., object], ...] = (link_create, attach, detach, query)
        return AttachPoint(*(partial(maker, kind) for maker in makers))  # type: ignore[arg-type]

    return {kind: row(kind) for kind in ATTACH_TYPES}


def replaced_prog(kernel: AttachKernel, op: str, fd: int, like: Prog) -> Prog:
    """Return the program that BPF_F_REPLACE names: EBADF, EINVAL for another type."""
    obj = kernel.fds.lookup(fd)
    if obj is None:
        raise KernelError(op, Errno.EBADF, f"fd {fd} is not open")
    if not isinstance(obj, Prog) or obj.type != like.type:
        raise KernelError(op, Errno.EINVAL, f"fd {fd} is no program of type {like.type.lower}")
    return obj
