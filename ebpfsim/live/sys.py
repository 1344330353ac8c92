"""The system call itself, by ctypes."""

import ctypes
import mmap
import os
import platform
from collections.abc import Mapping
from functools import cache

from ebpfsim.errors import InputError, KernelError
from ebpfsim.uapi.bpf import BpfCmd
from ebpfsim.uapi.bpf_attr import ATTRS

__all__ = [
    "Buffer",
    "CallError",
    "Value",
    "bpf",
    "bpf_bytes",
    "buffer",
    "close",
    "libc",
    "mmap_at",
    "munmap",
    "possible_cpus",
    "require_linux",
]

NR_BPF = 321  # arch/x86/entry/syscalls/syscall_64.tbl
MAP_FIXED_NOREPLACE = 0x100000  # include/uapi/asm-generic/mman-common.h
MAP_FAILED = (1 << 64) - 1

Buffer = ctypes.Array[ctypes.c_char]
Value = int | bytes | Buffer | None  # of a field of union bpf_attr


def require_linux() -> None:
    """Refuse other systems, whose call 321 is something else."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise InputError("", f"this is {platform.system()} on {platform.machine()}, bpf(2) wants Linux on x86_64")


class CallError(KernelError):
    """A call that the kernel refused; ``attr`` is what it left in ``union bpf_attr``."""

    def __init__(self, op: str, errno: int, detail: str, attr: Mapping[str, int | bytes]) -> None:
        self.attr = attr
        super().__init__(op, errno, detail)


def bpf(
    cmd: BpfCmd, attr: Mapping[str, Value], *, op: str = "", detail: str = ""
) -> tuple[int, dict[str, int | bytes]]:
    """Make one call; return its result and the fields of ``attr`` as the kernel left them.

    Buffers are passed by address, None as NULL. A refusal raises CallError.
    """
    layout = ATTRS[cmd]
    values: dict[str, int | bytes] = {}
    for name, value in attr.items():
        if isinstance(value, ctypes.Array):
            values[name] = ctypes.addressof(value)
        else:
            values[name] = 0 if value is None else value
    data = layout.pack(values)
    result = int(libc().syscall(NR_BPF, int(cmd), (ctypes.c_char * len(data)).from_buffer(data), len(data)))
    after = layout.unpack(data)
    if result < 0:
        raise CallError(op or cmd.name.lower(), ctypes.get_errno(), detail, after)
    return result, after


def bpf_bytes(cmd: BpfCmd, attr: bytes | bytearray) -> int:
    """Make one call with a union that is given as bytes; KernelError."""
    data = ctypes.create_string_buffer(bytes(attr), len(attr))
    result = int(libc().syscall(NR_BPF, int(cmd), data, len(attr)))
    if result < 0:
        raise KernelError(cmd.name.lower(), ctypes.get_errno())
    return result


@cache
def libc() -> ctypes.CDLL:
    """Return the C library."""
    return ctypes.CDLL(None, use_errno=True)


def buffer(data: bytes | int) -> Buffer:
    """Return memory that holds ``data``, or that many zero bytes; at least one byte, so that it has an address."""
    if isinstance(data, int):
        return (ctypes.c_char * max(data, 1))()
    return (ctypes.c_char * max(len(data), 1)).from_buffer_copy(data or b"\0")


def possible_cpus() -> int:
    """Return the number of possible CPUs, of which per-CPU maps have a value each."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        last = file.read().strip().split(",")[-1].split("-")[-1]
    return int(last) + 1


def close(fd: int) -> None:
    """close(2)."""
    try:
        os.close(fd)
    except OSError as error:
        raise KernelError("close", error.errno or 0, f"fd {fd}") from None


def mmap_at(address: int, length: int, prot: int, fd: int, offset: int) -> int:
    """mmap(2), shared, at that address unless it is 0; return where it is."""
    call = libc().mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    flags = mmap.MAP_SHARED | (MAP_FIXED_NOREPLACE if address else 0)
    found = call(address or None, length, prot, flags, fd, offset)
    if found == MAP_FAILED:
        raise KernelError("map_mmap", ctypes.get_errno(), f"fd {fd}")
    assert isinstance(found, int)
    return found


def munmap(address: int, length: int) -> None:
    """munmap(2)."""
    call = libc().munmap
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    call(address, length)
