"""BPF_MAP_TYPE_DEVMAP and BPF_MAP_TYPE_DEVMAP_HASH: targets of bpf_redirect_map() (kernel/bpf/devmap.c, v6.18).

A value is ``struct bpf_devmap_val``: an interface index, and with 8 bytes a program that runs on the way out: user
space writes its descriptor and reads its id.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import SYSCALL_CPU, MapAttr, MapEnv
from ebpfsim.maps.prog_array import MapProg, ProgHolder
from ebpfsim.maps.targets import TargetTable
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_RDONLY_PROG, BPF_NOEXIST

__all__ = ["DevmapEntry", "DevmapHashMap", "DevmapMap"]

_U32 = Struct("<I")
_VAL = Struct("<Ii")  # struct bpf_devmap_val: ifindex, program


@dataclass(frozen=True, slots=True)
class DevmapEntry:
    """One target: a network device, and the program that runs on the way out, if any."""

    index: int
    ifindex: int
    device: object
    prog: MapProg | None
    address: int  # of the struct bpf_devmap_val that programs may read


class DevmapMap(ProgHolder):
    """An array of devices."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.map_flags |= BPF_F_RDONLY_PROG
        self.table = self._make_table()
        self._entries: dict[int, DevmapEntry] = {}

    def _make_table(self) -> TargetTable[DevmapEntry]:
        return TargetTable(self.mem, self.address, self._alloc_area(8 * self.max_entries))

    # ---- redirection --------------------------------------------------------------------------------------------

    def entry_at(self, index: int) -> DevmapEntry | None:
        """Return the target under an index (a key, for the hash), or None."""
        return self._entries.get(index)

    def device_at(self, index: int) -> object | None:
        """Return the device under an index, or None."""
        entry = self._entries.get(index)
        return entry.device if entry is not None else None

    def targets(self) -> Iterator[DevmapEntry]:
        """Yield the targets in the order in which BPF_F_BROADCAST takes them."""
        for index in sorted(self._entries):
            yield self._entries[index]

    def device_removed(self, device: object) -> None:
        """Forget a device that goes away (``dev_map_notification``)."""
        for entry in [entry for entry in self.targets() if entry.device is device]:
            self._drop(self._entries.pop(entry.index))

    # ---- elements -----------------------------------------------------------------------------------------------

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of a target's ``struct bpf_devmap_val``, or 0."""
        entry = self._entries.get(_U32.unpack(key)[0])
        return entry.address if entry is not None else 0

    def delete_elem(self, key: bytes) -> int:
        """Forget a target; it need not be there."""
        index: int = _U32.unpack(key)[0]
        if index >= self.max_entries:
            return -Errno.EINVAL
        self._replace(index, None)
        return 0

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the next index, used or not."""
        index = _U32.unpack(key)[0] if key is not None else self.max_entries
        if index >= self.max_entries:
            return _U32.pack(0)
        return _U32.pack(index + 1) if index < self.max_entries - 1 else None

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return a target's interface index and program id."""
        assert key is not None
        address = self.lookup_elem(key, SYSCALL_CPU)
        if not address:
            raise KernelError("map_lookup_elem", Errno.ENOENT, f"{self._who()}, key {key.hex()}")
        return self.mem.read(address, self.value_size)

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Set a target; interface index 0 removes it."""
        assert key is not None
        index: int = _U32.unpack(key)[0]
        ifindex, fd = _VAL.unpack(value.ljust(_VAL.size, b"\0"))
        if flags > BPF_EXIST:
            self._raise("map_update_elem", -Errno.EINVAL, key)
        if index >= self.max_entries:
            self._raise("map_update_elem", -Errno.E2BIG, key)
        if flags == BPF_NOEXIST:
            self._raise("map_update_elem", -Errno.EEXIST, key)
        if ifindex:
            self._replace(index, self._resolve(index, ifindex, fd))
            return
        if fd > 0:
            detail = f"{self._who()}: interface index 0 goes without a program"
            raise KernelError("map_update_elem", Errno.EINVAL, detail)
        self._replace(index, None)

    def on_release(self) -> None:
        """Let go of the programs."""
        for index in sorted(self._entries):
            self._drop(self._entries.pop(index))
        super().on_release()

    def _resolve(self, index: int, ifindex: int, fd: int) -> DevmapEntry:
        assert self._env is not None
        device = self._env.device_by_ifindex(ifindex)
        if device is None:
            raise KernelError("map_update_elem", Errno.EINVAL, f"{self._who()}: no network device {ifindex}")
        prog: MapProg | None = None
        if fd > 0:
            try:
                prog = cast(MapProg, self._env.prog_by_fd(fd))
            except KernelError:
                raise KernelError("map_update_elem", Errno.EINVAL, f"{self._who()}: fd {fd} is no program") from None
            fits = prog.type == ProgType.XDP and prog.expected_attach_type == AttachType.XDP_DEVMAP
            if not fits or not self.compatible(prog):
                detail = f"{self._who()}: the program is not of the kind BPF_XDP_DEVMAP"
                raise KernelError("map_update_elem", Errno.EINVAL, detail)
            prog.get()
        address = self.table.block(index, _VAL.pack(ifindex, prog.id if prog is not None else 0))
        return DevmapEntry(index, ifindex, device, prog, address)

    def _replace(self, index: int, entry: DevmapEntry | None) -> None:
        old = self._entries.pop(index, None)
        if old is not None:
            self._drop(old)
        if entry is not None:
            self._entries[index] = entry
            self.table.put(index, entry)

    def _drop(self, entry: DevmapEntry) -> None:
        self.table.take(entry.index, entry)
        if entry.prog is not None:
            entry.prog.put()


class DevmapHashMap(DevmapMap):
    """A hash map of devices: keys are any numbers, buckets are the low bits of the key, newest first."""

    holds_progs = False  # map_type_contains_progs() names the array only

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        self._mask = (1 << (attr.max_entries - 1).bit_length()) - 1
        super().__init__(attr, mem, nr_cpus, env)

    def _make_table(self) -> TargetTable[DevmapEntry]:
        return TargetTable(self.mem, self.address, self._alloc_area(8 * (self._mask + 1)), self._mask)

    def targets(self) -> Iterator[DevmapEntry]:
        """Yield the targets bucket by bucket."""
        # the sort is stable: within a bucket the newest stays first
        newest_first = list(self._entries.values())[::-1]
        yield from sorted(newest_first, key=lambda entry: entry.index & self._mask)

    def delete_elem(self, key: bytes) -> int:
        """Forget a target; ENOENT when it is not there."""
        index: int = _U32.unpack(key)[0]
        if index not in self._entries:
            return -Errno.ENOENT
        self._replace(index, None)
        return 0

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the key after ``key`` in the order of the buckets."""
        keys = [entry.index for entry in self.targets()]
        index = _U32.unpack(key)[0] if key is not None else None
        position = keys.index(index) + 1 if index in self._entries else 0
        return _U32.pack(keys[position]) if position < len(keys) else None

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Set a target."""
        assert key is not None
        index: int = _U32.unpack(key)[0]
        ifindex, fd = _VAL.unpack(value.ljust(_VAL.size, b"\0"))
        if flags > BPF_EXIST or not ifindex:
            self._raise("map_update_elem", -Errno.EINVAL, key)
        if index in self._entries and flags & BPF_NOEXIST:
            self._raise("map_update_elem", -Errno.EEXIST, key)
        entry = self._resolve(index, ifindex, fd)
        if index not in self._entries and len(self._entries) >= self.max_entries:
            self.table.put(index, entry)
            self._drop(entry)
            self._raise("map_update_elem", -Errno.E2BIG, key)
        self._replace(index, entry)
