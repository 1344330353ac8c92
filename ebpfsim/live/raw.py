"""bpf(2) of the live kernel as it is: a number, the bytes of ``union bpf_attr``, and memory of this process."""

import ctypes
import os

from ebpfsim.errors import InputError, KernelError
from ebpfsim.live.sys import NR_BPF, Buffer, buffer, libc
from ebpfsim.uapi.bpf import BpfCmd, MapType

__all__ = ["LiveRaw", "LiveUser"]

# commands that reach beyond the caller, and where the descriptor lies that they would attach
ATTACHING = {BpfCmd.PROG_ATTACH: 4, BpfCmd.LINK_CREATE: 0, BpfCmd.RAW_TRACEPOINT_OPEN: 8, BpfCmd.ITER_CREATE: 0}
NEVER = (BpfCmd.PROG_DETACH, BpfCmd.TASK_FD_QUERY)
MAX_MAP_BYTES = 64 << 20


class LiveUser:
    """Memory of this process: what the simulated ``user`` is."""

    def __init__(self) -> None:
        self._buffers: dict[int, Buffer] = {}

    def alloc(self, size: int, data: bytes = b"", *, writable: bool = True) -> int:
        """Return the address of ``size`` bytes that hold ``data`` and then zeroes."""
        if not writable:
            raise InputError("", "memory of this process is always writable")
        made = buffer(data.ljust(max(size, 4096), b"\0"))
        address = ctypes.addressof(made)
        self._buffers[address] = made
        return address

    def unmap(self, address: int) -> None:
        """Give memory back."""
        del self._buffers[address]

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of memory that ``alloc`` gave."""
        start = self._start(address, size)
        return self._buffers[start].raw[address - start : address - start + size]

    def write(self, address: int, data: bytes) -> None:
        """Store bytes in memory that ``alloc`` gave."""
        self._start(address, len(data))
        ctypes.memmove(address, data, len(data))

    def _start(self, address: int, size: int) -> int:
        for start, made in self._buffers.items():
            if start <= address and address + size <= start + len(made):
                return start
        raise InputError("", f"{size} bytes at {address:#x} are not memory of alloc()")


class LiveRaw:
    """``raw`` over the real call; what would attach to this machine is refused before."""

    def __init__(self) -> None:
        super().__init__()
        self.user = LiveUser()

    def raw(self, cmd: int, attr: bytearray, size: int | None = None) -> int:
        """bpf(2): return what the system call does; ``attr`` is filled in."""
        size = len(attr) if size is None else size
        _check(cmd, attr)
        room = buffer(bytes(attr).ljust(max(size, len(attr)), b"\0"))
        result = int(libc().syscall(NR_BPF, cmd, room, size))
        attr[:] = room.raw[: len(attr)]
        if result < 0:
            name = BpfCmd(cmd).name.lower() if cmd in set(BpfCmd) else f"bpf({cmd})"
            raise KernelError(name, ctypes.get_errno())
        return result


def _check(cmd: int, attr: bytearray) -> None:
    data = bytes(attr).ljust(168, b"\0")
    numbers = memoryview(data[:168]).cast("I")
    if cmd == BpfCmd.MAP_CREATE:
        by_entry = max(numbers[1] + numbers[2], 1 if numbers[0] in (MapType.RINGBUF, MapType.USER_RINGBUF) else 8)
        if by_entry * max(numbers[3], 1) > MAX_MAP_BYTES:
            raise InputError("", "map_create: too large for this machine")
    if cmd in NEVER or (cmd in ATTACHING and _is_open(numbers[ATTACHING[BpfCmd(cmd)] // 4])):
        raise InputError("", f"bpf({cmd}) reaches beyond this process")


def _is_open(fd: int) -> bool:
    # of bpf(2): others cannot be attached
    try:
        return "bpf" in os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
