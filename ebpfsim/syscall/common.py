"""What the commands of bpf(2) share: descriptors and names, checked as kernel/bpf/syscall.c, v6.18, checks them."""

import string
from typing import TypeVar

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map
from ebpfsim.objects import FdKind, KernelObject, OpenFile
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.kernel import BpfKernel
from ebpfsim.uapi.bpf import BpfCmd, KernelEnum
from ebpfsim.uapi.flags import BPF_OBJ_NAME_LEN

__all__ = ["Calls", "check_name", "enum_value"]

# isalnum() of the kernel knows the letters of Latin-1 (lib/ctype.c)
_LATIN1 = bytes(code for code in range(0xC0, 0x100) if code not in (0xD7, 0xF7))
_NAME_CHARS = frozenset((string.ascii_letters + string.digits + "_.").encode() + _LATIN1)

ObjectT = TypeVar("ObjectT", bound=KernelObject)
EnumT = TypeVar("EnumT", bound=KernelEnum)


class Calls:
    """Base of the commands: the kernel that is entered."""

    def __init__(self, kernel: BpfKernel) -> None:
        self.kernel = kernel

    def _file(self, op: str, fd: int, cls: type[ObjectT]) -> tuple[ObjectT, OpenFile]:
        # EBADF when it is not open, EINVAL when it is something else
        file = self.kernel.fds.file(fd)
        if file is None:
            raise KernelError(op, Errno.EBADF, f"fd {fd} is not open")
        if not isinstance(file.obj, cls):
            has, want = type(file.obj).__name__, cls.__name__
            raise KernelError(op, Errno.EINVAL, f"fd {fd} is a {has}, expected a {want}")
        return file.obj, file

    def _object(self, op: str, fd: int, kind: FdKind | None) -> KernelObject:
        # what is behind a descriptor that no command of bpf(2) gave; None takes anything
        file = self.kernel.fds.file(fd)
        if file is None:
            raise KernelError(op, Errno.EBADF, f"fd {fd} is not open")
        if kind is FdKind.SOCKET and hasattr(file.obj, "private"):
            # a socket of a task is a file of its own
            found: KernelObject | None = getattr(getattr(file.obj.private, "sk", None), "file", None)
            if found is not None:
                return found
        if kind is not None and file.obj.fd_kind is not kind:
            errno = Errno.ENOTSOCK if kind is FdKind.SOCKET else Errno.EBADF
            raise KernelError(op, errno, f"fd {fd} is a {type(file.obj).__name__}, expected a {kind.value}")
        return file.obj

    def _prog(self, op: str, fd: int) -> Prog:
        return self._file(op, fd, Prog)[0]

    def _map(self, op: str, fd: int, *, read: bool = False, write: bool = False) -> Map:
        map_, file = self._file(op, fd, Map)
        if (read and not file.readable) or (write and (not file.writable or map_.frozen)):
            why = "is frozen" if write and map_.frozen else f"does not allow it through fd {fd}"
            raise KernelError(op, Errno.EPERM, f"map '{map_.name}' {why}")
        return map_


def check_name(op: str, name: str) -> None:
    """Refuse names that bpf_obj_name_cpy() refuses: EINVAL."""
    data = name.encode("utf-8", "surrogateescape")
    if len(data) >= BPF_OBJ_NAME_LEN:
        raise KernelError(op, Errno.EINVAL, f"name '{name}' of {len(data)} characters, at most {BPF_OBJ_NAME_LEN - 1}")
    for code in data:
        if code not in _NAME_CHARS:
            detail = f"name '{name}': character {chr(code)!r} is not a letter, digit, '_' or '.'"
            raise KernelError(op, Errno.EINVAL, detail)


def enum_value(op: str, cls: type[EnumT], value: int) -> EnumT:
    """Return a number as a member of its enum; EINVAL when there is none."""
    try:
        return cls(value)
    except ValueError:
        raise KernelError(op, Errno.EINVAL, f"{cls.__name__} {value} does not exist") from None


def op_of(cmd: BpfCmd) -> str:
    """Return libbpf's name of a command, for instance ``map_create``."""
    return cmd.name.lower()
