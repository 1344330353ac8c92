"""Kernel objects that user space names by id or fd: reference counts, id tables, file descriptors.

An object lives while anything refers to it: a file descriptor, a link, a pin, another object. ``put`` of the last
reference calls ``on_release`` once. Counts are Python integers and cannot overflow.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError, KernelError

__all__ = ["FdKind", "FdTable", "IdTable", "KernelObject", "OpenFile"]


class FdKind(Enum):
    """Kinds of files other than those of bpf(2) that maps and programs take by descriptor."""

    PERF_EVENT = "perf event"
    CGROUP = "cgroup"
    SOCKET = "socket"
    PIDFD = "pidfd"


class KernelObject:
    """An object with a reference count that starts at one, owned by its maker.

    ``user_refs`` counts the references of user space among them (descriptors and pins; ``usercnt`` of struct bpf_map).
    """

    fd_kind: FdKind | None = None

    def __init__(self) -> None:
        self.id = 0
        self.refs = 1
        self.user_refs = 0

    def get(self) -> None:
        """Take a reference."""
        if self.refs <= 0:
            raise InternalError(f"reference taken on a released {type(self).__name__}")
        self.refs += 1

    def put(self) -> None:
        """Drop a reference; the last one releases the object."""
        if self.refs <= 0:
            raise InternalError(f"reference dropped on a released {type(self).__name__}")
        self.refs -= 1
        if self.refs == 0:
            self.on_release()

    def on_release(self) -> None:
        """Free what the object holds; called once."""

    def get_user(self) -> None:
        """Count the caller's reference as one of user space."""
        self.user_refs += 1

    def put_user(self) -> None:
        """Drop a reference of user space, descriptor or pin."""
        self.user_refs -= 1
        if self.user_refs == 0:
            self.on_user_release()
        self.put()

    def on_user_release(self) -> None:
        """Called when user space holds the object no more; the kernel itself may still."""


ObjectT = TypeVar("ObjectT", bound=KernelObject)


class IdTable(Generic[ObjectT]):
    """Ids of one kind of object: given in ascending order, never reused (idr_alloc_cyclic in kernel/bpf/syscall.c)."""

    def __init__(self) -> None:
        self._objects: dict[int, ObjectT] = {}
        self._next_id = 1

    def add(self, obj: ObjectT) -> int:
        """Give the object its id."""
        obj.id = self._next_id
        self._objects[obj.id] = obj
        self._next_id += 1
        return obj.id

    def remove(self, obj: ObjectT) -> None:
        """Forget the object; its id is not given again."""
        self._objects.pop(obj.id, None)

    def find(self, object_id: int) -> ObjectT | None:
        """Return the object with that id, or None."""
        return self._objects.get(object_id)

    def next_id(self, start_id: int) -> int | None:
        """Return the lowest id above ``start_id``, or None."""
        return min((i for i in self._objects if i > start_id), default=None)

    def __iter__(self) -> Iterator[ObjectT]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """What a descriptor stands for: an object, and what may be done to it through this descriptor (``f_mode``)."""

    obj: KernelObject
    readable: bool = True
    writable: bool = True


class StdStream(KernelObject):
    """Standard input, output or error of a task: a file that no command of bpf(2) takes."""

    @property
    def storage_owner(self) -> KernelObject:
        """What inode storage belongs to."""
        return self


class FdTable:
    """The file descriptors of one task, each holding one reference: the three standard ones, then the lowest free."""

    def __init__(self) -> None:
        self._files = {fd: OpenFile(StdStream()) for fd in range(3)}
        self._reserved: set[int] = set()
        # descriptors that a new program does not get
        self.close_on_exec: set[int] = set()
        # files of objects that are none themselves, by descriptor
        self.shadows: dict[int, KernelObject] = {}

    def install(self, obj: KernelObject, *, readable: bool = True, writable: bool = True) -> int:
        """Give the object a descriptor, which takes over the caller's reference."""
        fd = self.reserve(3)
        self.install_at(fd, obj, readable=readable, writable=writable)
        return fd

    def reserve(self, start: int = 0) -> int:
        """Take the lowest free descriptor from ``start`` on (alloc_fd)."""
        fd = start
        while fd in self._files or fd in self._reserved:
            fd += 1
        self._reserved.add(fd)
        return fd

    def unreserve(self, fd: int) -> None:
        """Give back a descriptor that was taken and not used (put_unused_fd)."""
        self._reserved.discard(fd)

    def install_at(self, fd: int, obj: KernelObject, *, readable: bool = True, writable: bool = True) -> None:
        """Let a descriptor that was taken stand for an object; it takes over the caller's reference (fd_install)."""
        self._reserved.discard(fd)
        self._files[fd] = OpenFile(obj, readable, writable)
        obj.get_user()

    def take(self, fd: int) -> KernelObject | None:
        """Return the object of a descriptor that is closed herewith, with its reference; None when it is not open."""
        file = self._files.pop(fd, None)
        self.close_on_exec.discard(fd)
        shadow = self.shadows.pop(fd, None)
        if shadow is not None:
            return shadow
        return file.obj if file is not None else None

    def lookup(self, fd: int) -> KernelObject | None:
        """Return the object behind a descriptor, or None."""
        file = self._files.get(fd)
        return file.obj if file is not None else None

    def file(self, fd: int) -> OpenFile | None:
        """Return the open file behind a descriptor, or None."""
        return self._files.get(fd)

    def numbers(self) -> list[int]:
        """Return all open descriptors in order."""
        return sorted(self._files)

    def next_fd(self, start: int) -> int | None:
        """Return the lowest open descriptor from ``start`` on, None without one."""
        return min((fd for fd in self._files if fd >= start), default=None)

    def close(self, fd: int) -> None:
        """Close a descriptor; EBADF when it is not open."""
        file = self._files.pop(fd, None)
        if file is None:
            raise KernelError("close", Errno.EBADF, f"fd {fd} is not open")
        file.obj.put_user()

    def close_all(self) -> None:
        """Close every descriptor, as at the end of a task."""
        for fd in sorted(self._files):
            self.close(fd)
