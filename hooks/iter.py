"""Iterators: programs that show the kernel's objects to who reads a descriptor (kernel/bpf/bpf_iter.c, v6.18).

A *target* is a kind of object. It says in which order objects come, and gives each the context that the program sees;
others register theirs in the same table (``iter_points``). Programs write into a ``struct seq_file`` of 32 KiB; reading
goes on where the last one ended, an object that did not fit is shown again, and after the last one the program is
called once without an object.

Left out: targets of tasks, sockets, cgroups and kernel symbols. Differs: of ``struct bpf_prog`` and ``struct bpf_link``
programs find id, type, name and tag, all else reads as zero.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from typing import Any, Protocol

from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Composite, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.helpers.seq import SEQ_COUNT, SEQ_SIZE
from ebpfsim.jit.engine import execute
from ebpfsim.maps.map import Map
from ebpfsim.maps.value import ValueMap
from ebpfsim.memory import PAGE_SIZE, Memory
from ebpfsim.objects import IdTable, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType, LinkType, MapType
from hooks.link import Link, LinkBase
from hooks.point import AttachKernel, AttachPoint, Opts, Points

__all__ = ["IterKernel", "IterLink", "Target", "points"]

OP = "link_create"
SEQ_FILE_BYTES, SEQ_BUFFER_BYTES = 128, PAGE_SIZE << 3
MAX_ITER_OBJECTS = 1_000_000
PREFIX = "bpf_iter_"
# struct bpf_iter_meta: seq, session_id, seq_num
META_BYTES, _SESSION, _SEQ_NUM = 24, 8, 16
MAP_ELEM_TYPES = frozenset(
    {
        MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.HASH, MapType.LRU_HASH, MapType.PERCPU_HASH,
        MapType.LRU_PERCPU_HASH,
    }
)  # fmt: skip


class IterKernel(AttachKernel, Protocol):
    """What iterators need of the simulated kernel."""

    mem: Memory
    cpus: list[Cpu]
    maps: IdTable[Map]
    progs: IdTable[Prog]


class Target(Protocol):
    """A kind of object (``struct bpf_iter_reg``)."""

    # addresses behind the meta data in the context, for the object of a position and for the call without one
    empty: tuple[int, ...]

    def attach(self, kernel: IterKernel, info: bytes) -> KernelObject | None:
        """Check ``union bpf_iter_link_info`` and return what the link keeps, with a reference; KernelError."""
        ...

    def details(self, kept: KernelObject | None) -> Mapping[str, object]:
        """Return the fields that ``struct bpf_link_info`` has beside the name of the target."""
        ...

    def objects(self, kernel: IterKernel, kept: KernelObject | None) -> Iterator[tuple[int, ...]]:
        """Yield the words of the context of each object; they are good until the next one is asked for."""
        ...


class IterLink(Link):
    """A link of an iterator program: every ``iter_create`` begins to read anew."""

    type = LinkType.ITER

    def __init__(self, kernel: IterKernel, prog: Prog, name: str, target: Target, kept: KernelObject | None) -> None:
        super().__init__(kernel, prog, AttachType.TRACE_ITER)
        self.name, self.target, self.kept = name, target, kept
        self._kernel = kernel

    def iter_create(self) -> "IterFile":
        """Return what reads (``bpf_iter_new_fd``)."""
        return IterFile(self._kernel, self)

    def fill_link_info(self) -> dict[str, object]:
        """Return the target's name, and what the target adds."""
        return {"target_name": self.name, **self.target.details(self.kept)}

    def update(self, prog: Prog, old: Prog | None = None) -> None:
        """Replace the program by another one for the same target (``bpf_iter_link_replace``)."""
        if old is not None and old is not self.prog:
            raise KernelError("link_update", Errno.EPERM, "another program is attached")
        mine, its = self.prog.attach_target, prog.attach_target
        if prog.type != self.prog.type or mine is None or its is None or mine.id != its.id:
            raise KernelError("link_update", Errno.EINVAL, "a program for something else")
        prog.get()
        self.prog, before = prog, self.prog
        before.put()

    def release(self) -> None:
        """Let go of the target's object."""
        if self.kept is not None:
            self.kept.put()
            self.kept = None


class IterFile(KernelObject):
    """An open iterator (``struct bpf_iter_priv_data`` and its ``struct seq_file``)."""

    def __init__(self, kernel: IterKernel, link: IterLink) -> None:
        super().__init__()
        link.get()
        link.prog.get()
        mem = kernel.mem
        self._kernel, self._link, self._prog = kernel, link, link.prog
        self._seq = mem.alloc(SEQ_FILE_BYTES, what="the seq_file of an iterator")
        self._buf = mem.alloc(SEQ_BUFFER_BYTES, what="the buffer of an iterator")
        self._meta = mem.alloc(META_BYTES, what="the meta data of an iterator")
        self._ctx = mem.alloc(8 * (1 + len(link.target.empty)), what="the context of an iterator")
        mem.store(self._seq, 8, self._buf)
        mem.store(self._seq + SEQ_SIZE, 8, SEQ_BUFFER_BYTES)
        sessions = kernel.cpus[0].scratch.setdefault("bpf_iter_session", count(1))
        self._session = next(sessions)  # type: ignore[call-overload]
        self._objects = link.target.objects(kernel, link.kept)
        self._current: tuple[int, ...] | None = None
        self._started = self._done = False
        self._seq_num = 0
        self._from = 0

    def read(self, size: int) -> bytes:
        """Return what comes next, at most ``size`` bytes, nothing at the end (``bpf_seq_read``); KernelError."""
        if self._count:
            return self._hand_out(size)
        self._from = 0
        if not self._started:
            self._started, self._current = True, next(self._objects, None)
        shown = 0
        while self._current is not None:
            before = self._count
            if shown and before >= size:
                break
            error = self._show(self._current, in_stop=False)
            if error or self._overflowed:
                self._count = before
                if not before:
                    raise KernelError("read", error or Errno.E2BIG, f"an object of {self._link.name}")
                return self._hand_out(size)
            shown += 1
            self._current = next(self._objects, None)
            self._seq_num += self._current is not None
            if shown >= MAX_ITER_OBJECTS:
                break
        if self._current is None and not self._done:
            self._stop()
        return self._hand_out(size)

    def _stop(self) -> None:
        # the call without an object
        before = self._count
        self._show(self._link.target.empty, in_stop=True)
        if not self._overflowed:
            self._done = True
            return
        self._count = before
        if not before:
            raise KernelError("read", Errno.E2BIG, f"the end of {self._link.name}")

    def _show(self, words: tuple[int, ...], *, in_stop: bool) -> int:
        # bpf_iter_run_prog(): a program that returns 1 wants to see the object again
        mem, cpu = self._kernel.mem, self._kernel.cpus[0]
        mem.write(
            self._meta, b"".join(word.to_bytes(8, "little") for word in (self._seq, self._session, self._seq_num))
        )
        mem.write(self._ctx, b"".join(word.to_bytes(8, "little") for word in (self._meta, *words)))
        before_ps, start_ns, kernel, prog = cpu.elapsed_ps, cpu.now_ns, self._kernel, self._prog
        ran = execute(prog, self._ctx, cpu)
        cpu.elapsed_ps = before_ps
        self._link.stats.count("", ran.cost_ps, 0)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                start_ns, kernel.name, cpu.number, "iter", self._link.name, self._link.label, prog.id, prog.name,
                ran.retval, "", ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on
        return Errno.EAGAIN if ran.retval and not in_stop else 0

    @property
    def _count(self) -> int:
        return self._kernel.mem.load(self._seq + SEQ_COUNT, 8) - self._from

    @_count.setter
    def _count(self, value: int) -> None:
        self._kernel.mem.store(self._seq + SEQ_COUNT, 8, value + self._from)

    @property
    def _overflowed(self) -> bool:
        return self._kernel.mem.load(self._seq + SEQ_COUNT, 8) == SEQ_BUFFER_BYTES

    def _hand_out(self, size: int) -> bytes:
        n = min(self._count, size)
        data = self._kernel.mem.read(self._buf + self._from, n)
        self._from += n
        if not self._count:
            self._from = 0
            self._count = 0
        return data

    def on_release(self) -> None:
        """Close."""
        self._objects.close()  # type: ignore[attr-defined]
        for address in (self._seq, self._buf, self._meta, self._ctx):
            self._kernel.mem.free(address)
        self._prog.put()
        self._link.put()


# ---- targets --------------------------------------------------------------------------------------------------------


class _ByIds:
    # objects of a table in the order of their ids, one word of the context each
    empty: tuple[int, ...] = (0,)

    def attach(self, kernel: IterKernel, info: bytes) -> KernelObject | None:
        return None

    def details(self, kept: KernelObject | None) -> Mapping[str, object]:
        return {}

    def table(self, kernel: IterKernel) -> IdTable[Any]:
        raise NotImplementedError

    def address(self, kernel: IterKernel, obj: Any) -> tuple[int, list[int]]:
        """Return the address of the kernel's structure, and what to free afterwards."""
        raise NotImplementedError

    def objects(self, kernel: IterKernel, kept: KernelObject | None) -> Iterator[tuple[int, ...]]:
        table, last = self.table(kernel), 0
        while (found := table.next_id(last)) is not None:
            last, obj = found, table.find(found)
            assert obj is not None
            obj.get()
            address, blocks = self.address(kernel, obj)
            try:
                yield (address,)
            finally:
                for block in blocks:
                    kernel.mem.free(block)
                obj.put()


class MapTarget(_ByIds):
    """All maps."""

    def table(self, kernel: IterKernel) -> IdTable[Any]:
        """Return the maps."""
        return kernel.maps

    def address(self, kernel: IterKernel, obj: Map) -> tuple[int, list[int]]:
        """Return where its ``struct bpf_map`` is."""
        return obj.address, []


class ProgTarget(_ByIds):
    """All programs."""

    def table(self, kernel: IterKernel) -> IdTable[Any]:
        """Return the programs."""
        return kernel.progs

    def address(self, kernel: IterKernel, obj: Prog) -> tuple[int, list[int]]:
        """Make a ``struct bpf_prog`` and its ``struct bpf_prog_aux``."""
        return _prog_struct(kernel.mem, obj)


class LinkTarget(_ByIds):
    """All links."""

    def table(self, kernel: IterKernel) -> IdTable[Any]:
        """Return the links."""
        return kernel.links

    def address(self, kernel: IterKernel, obj: LinkBase) -> tuple[int, list[int]]:
        """Make a ``struct bpf_link`` with its program, if it has one."""
        prog, blocks = _prog_struct(kernel.mem, obj.prog) if isinstance(obj, Link) else (0, [])
        link = _make(kernel.mem, "bpf_link", id=obj.id, type=int(obj.type), prog=prog)
        return link, [*blocks, link]


class MapElemTarget:
    """The elements of one map: its address, key and value; of per-CPU maps the values of all CPUs."""

    empty: tuple[int, ...] = (0, 0, 0)

    def attach(self, kernel: IterKernel, info: bytes) -> KernelObject | None:
        """Return the map whose descriptor ``union bpf_iter_link_info`` begins with."""
        fd = int.from_bytes(info[:4], "little")
        map_ = kernel.fds.lookup(fd) if fd else None
        if not isinstance(map_, Map):
            errno = Errno.EBADF if map_ is None else Errno.EINVAL
            raise KernelError(OP, errno, f"map_fd {fd} is no map")
        if map_.type not in MAP_ELEM_TYPES:
            raise KernelError(OP, Errno.EINVAL, f"elements of a {map_.type.lower}")
        map_.get()
        return map_

    def details(self, kept: KernelObject | None) -> Mapping[str, object]:
        """Return the map's id."""
        return {"map_id": kept.id if kept is not None else 0}

    def objects(self, kernel: IterKernel, kept: KernelObject | None) -> Iterator[tuple[int, ...]]:
        """Yield every element, copied to where the program may look at it."""
        assert isinstance(kept, ValueMap)
        mem = kernel.mem
        key_at, value_at = mem.alloc(kept.key_size), mem.alloc(kept.user_value_size)
        try:
            for key, key_address, value_address in kept.elements(0):
                mem.write(key_at, key)
                if kept.percpu:
                    mem.write(value_at, kept.sys_lookup(key))
                    value_address = value_at
                yield kept.address, key_address or key_at, value_address
        finally:
            mem.free(key_at)
            mem.free(value_at)


@cache
def _layout(name: str) -> tuple[int, dict[str, tuple[int, int]]]:
    # size of a structure of the kernel; offset and size of its members, those of nameless ones included
    btf = vmlinux()
    type_id = btf.by_name(name, Kind.STRUCT)
    found: dict[str, tuple[int, int]] = {}

    def walk(composite_id: int, base: int) -> None:
        composite = btf.type(composite_id)
        assert isinstance(composite, Composite)
        for member in composite.members:
            off = base + (member.bit_off & 0xFFFFFF) // 8
            if member.name:
                found[member.name] = off, sizeof(btf, member.type_id)
            else:
                walk(btf.resolve(member.type_id), off)

    walk(type_id, 0)
    return sizeof(btf, type_id), found


def _make(mem: Memory, struct: str, **values: int | bytes) -> int:
    size, members = _layout(struct)
    address = mem.alloc(size, what=f"a struct {struct} for an iterator")
    for member, value in values.items():
        off, room = members[member]
        width = min(room, 8)
        mem.write(address + off, value.to_bytes(width, "little") if isinstance(value, int) else value)
    return address


def _prog_struct(mem: Memory, prog: Prog) -> tuple[int, list[int]]:
    aux = _make(mem, "bpf_prog_aux", id=prog.id, name=prog.name.encode()[:15])
    made = _make(mem, "bpf_prog", type=int(prog.type), tag=prog.tag, len=len(prog.insns), aux=aux)
    return made, [aux, made]


TARGETS: Mapping[str, Target] = {
    "bpf_map": MapTarget(),
    "bpf_prog": ProgTarget(),
    "bpf_link": LinkTarget(),
    "bpf_map_elem": MapElemTarget(),
}


def points(kernel: IterKernel, more: Iterable[Mapping[str, Target]] = ()) -> Points:
    """Return the row of iterators; ``more`` are the targets of other rooms by name."""
    targets = dict(TARGETS)
    for others in more:
        targets.update(others)
    return {AttachType.TRACE_ITER: AttachPoint(link_create=_creator(kernel, targets))}


def _fits(prog: Prog, map_: Map) -> bool:
    # bpf_iter_attach_map(): all accesses are inside of what the iterator will show
    size = map_.user_value_size if isinstance(map_, ValueMap) else map_.value_size
    return prog.max_rdonly_access <= map_.key_size and prog.max_rdwr_access <= size


def _creator(kernel: IterKernel, targets: Mapping[str, Target]) -> Callable[[Prog, int, int, Opts], KernelObject]:
    def create(prog: Prog, target_fd: int, flags: int, opts: Opts) -> KernelObject:
        # bpf_iter_link_attach()
        if target_fd or flags:
            raise KernelError(OP, Errno.EINVAL, f"target_fd {target_fd}, flags {flags:#x}")
        if prog.attach_target is None:
            raise KernelError(OP, Errno.ENOENT, f"program '{prog.name}' is for no iterator")
        name = prog.attach_target.name.removeprefix(PREFIX)
        target = targets.get(name)
        if target is None:
            raise NotModelled(f"iterator over {name}", "kernel/bpf/bpf_iter.c")
        info = opts.get("iter_info") or b""
        kept = target.attach(kernel, bytes(info))
        if isinstance(kept, Map) and not _fits(prog, kept):
            kept.put()
            raise KernelError(OP, Errno.EACCES, f"program '{prog.name}' looks behind keys or values of '{kept.name}'")
        return IterLink(kernel, prog, name, target, kept)

    return create
