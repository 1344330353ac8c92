"""BPF_MAP_TYPE_CPUMAP: CPUs that bpf_redirect_map() hands packets to (kernel/bpf/cpumap.c, v6.18).

A value is ``struct bpf_cpumap_val``: the size of the queue in packets, and with 8 bytes a program that runs on the
other CPU: user space writes its descriptor and reads its id.
"""

from dataclasses import dataclass
from struct import Struct
from typing import cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.fd_array import IndexedMap
from ebpfsim.maps.map import MapAttr, MapEnv
from ebpfsim.maps.prog_array import MapProg, ProgHolder
from ebpfsim.maps.targets import TargetTable
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_EXIST, BPF_NOEXIST

__all__ = ["CpumapEntry", "CpumapMap"]

_U32 = Struct("<I")
_VAL = Struct("<Ii")  # struct bpf_cpumap_val: qsize, program
MAX_QSIZE = 16384  # kernel/bpf/cpumap.c: cpu_map_update_elem


@dataclass(frozen=True, slots=True)
class CpumapEntry:
    """One CPU: the size of its queue in packets, and the program that runs there, if any."""

    cpu: int
    qsize: int
    prog: MapProg | None
    address: int  # of the struct bpf_cpumap_val


class CpumapMap(IndexedMap, ProgHolder):
    """CPUs by number."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.table = TargetTable[CpumapEntry](mem, self.address, self._alloc_area(8 * attr.max_entries))
        self._entries: dict[int, CpumapEntry] = {}

    def entry_at(self, index: int) -> CpumapEntry | None:
        """Return the target under an index, or None."""
        return self._entries.get(index)

    def delete_elem(self, key: bytes) -> int:
        """Forget a CPU; it need not be there."""
        index: int = _U32.unpack(key)[0]
        if index >= self.max_entries:
            return -Errno.EINVAL
        self._replace(index, None)
        return 0

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return the size of a CPU's queue and the id of its program."""
        assert key is not None
        entry = self._entries.get(_U32.unpack(key)[0])
        if entry is None:
            raise KernelError("map_lookup_elem", Errno.ENOENT, f"{self._who()}, key {key.hex()}")
        return _VAL.pack(entry.qsize, entry.prog.id if entry.prog is not None else 0)[: self.value_size]

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Set a CPU's queue; size 0 removes it."""
        assert key is not None
        index: int = _U32.unpack(key)[0]
        qsize, fd = _VAL.unpack(value.ljust(_VAL.size, b"\0"))
        for wrong, errno in (
            (flags > BPF_EXIST, Errno.EINVAL),
            (index >= self.max_entries, Errno.E2BIG),
            (flags == BPF_NOEXIST, Errno.EEXIST),
            (qsize > MAX_QSIZE, Errno.EOVERFLOW),
            (index >= self.nr_cpus, Errno.ENODEV),
        ):
            if wrong:
                self._raise("map_update_elem", -errno, key)
        self._replace(index, self._entry(index, qsize, fd) if qsize else None)

    def on_release(self) -> None:
        """Let go of the programs."""
        for index in sorted(self._entries):
            self._replace(index, None)
        super().on_release()

    def _entry(self, index: int, qsize: int, fd: int) -> CpumapEntry:
        prog = self._prog(fd) if fd > 0 else None
        address = self.table.block(index, _VAL.pack(qsize, prog.id if prog is not None else 0))
        return CpumapEntry(index, qsize, prog, address)

    def _prog(self, fd: int) -> MapProg:
        # whatever is wrong with the program, the kernel's entry is not made: ENOMEM
        assert self._env is not None
        try:
            prog = cast(MapProg, self._env.prog_by_fd(fd))
        except KernelError as error:
            raise KernelError("map_update_elem", Errno.ENOMEM, f"{self._who()}: {error.detail}") from None
        fits = prog.type == ProgType.XDP and prog.expected_attach_type == AttachType.XDP_CPUMAP
        if not fits or not self.compatible(prog):
            detail = f"{self._who()}: the program is not of the kind BPF_XDP_CPUMAP"
            raise KernelError("map_update_elem", Errno.ENOMEM, detail)
        prog.get()
        return prog

    def _replace(self, index: int, entry: CpumapEntry | None) -> None:
        old = self._entries.pop(index, None)
        if old is not None:
            self.table.take(index, old)
            if old.prog is not None:
                old.prog.put()
        if entry is not None:
            self._entries[index] = entry
            self.table.put(index, entry)
