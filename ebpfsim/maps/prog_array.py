"""BPF_MAP_TYPE_PROG_ARRAY: the programs that bpf_tail_call() reaches (kernel/bpf/arraymap.c, kernel/bpf/core.c, v6.18).

User space stores program descriptors and reads ids. The first program that uses or enters the array decides which
others may (``bpf_prog_map_compatible``). When user space lets go of the array it is emptied, even if programs hold it.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Protocol, cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.uapi.flags import BPF_ANY, BPF_F_XDP_DEV_BOUND_ONLY, BPF_F_XDP_HAS_FRAGS

__all__ = ["MapProg", "ProgArrayMap", "ProgHolder"]

_U32 = Struct("<I")


class MapProg(Protocol):
    """What maps ask of a program: it is ``ebpfsim.progs.prog.Prog``, which lives on a floor above."""

    id: int
    type: ProgType
    expected_attach_type: AttachType
    prog_flags: int

    def get(self) -> None:
        """Take a reference."""
        ...

    def put(self) -> None:
        """Drop a reference."""
        ...


@dataclass(frozen=True, slots=True)
class _Owner:
    # struct bpf_map_owner: what all programs of a map must have in common
    type: ProgType
    xdp_has_frags: bool
    expected_attach_type: AttachType


class ProgHolder(Map):
    """A map that programs enter: they must all be of one kind."""

    holds_progs = True
    owner: _Owner | None = None

    def compatible(self, prog: MapProg) -> bool:
        """Tell whether a program may use or enter this map; the first one settles the kind.

        Left out: what only matters for program types and cgroup storage that have no maps of this kind yet.
        """
        if prog.prog_flags & BPF_F_XDP_DEV_BOUND_ONLY:
            return False
        frags = bool(prog.prog_flags & BPF_F_XDP_HAS_FRAGS)
        if self.owner is None:
            self.owner = _Owner(prog.type, frags, prog.expected_attach_type)
            return True
        if (self.owner.type, self.owner.xdp_has_frags) != (prog.type, frags):
            return False
        return self.type != MapType.PROG_ARRAY or self.owner.expected_attach_type == prog.expected_attach_type


class ProgArrayMap(ProgHolder):
    """A program array; ``prog_at`` is what a tail call looks up."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self._alloc_area(8 * attr.max_entries)  # the kernel's pointers; nothing reads them
        self._progs: dict[int, MapProg] = {}

    def prog_at(self, index: int) -> MapProg | None:
        """Return the program in a slot, or None; any index may be asked for."""
        return self._progs.get(index)

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Refuse: programs only tail-call into the array (ENOTSUPP)."""
        return -Errno.ENOTSUPP

    def delete_elem(self, key: bytes) -> int:
        """Empty a slot: ENOENT when it is empty already, E2BIG past the end."""
        index: int = _U32.unpack(key)[0]
        if index >= self.max_entries:
            return -Errno.E2BIG
        prog = self._progs.pop(index, None)
        if prog is None:
            return -Errno.ENOENT
        prog.put()
        return 0

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the next index, empty or not."""
        index = _U32.unpack(key)[0] if key is not None else self.max_entries
        if index >= self.max_entries:
            return _U32.pack(0)
        return _U32.pack(index + 1) if index < self.max_entries - 1 else None

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return the id of the program in a slot; ENOENT when it is empty."""
        assert key is not None
        prog = self._progs.get(_U32.unpack(key)[0])
        if prog is None:
            raise KernelError("map_lookup_elem", Errno.ENOENT, f"{self._who()}, key {key.hex()}")
        return _U32.pack(prog.id)

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Put the program behind a descriptor into a slot."""
        assert key is not None
        assert self._env is not None
        if flags != BPF_ANY:
            self._raise("map_update_elem", -Errno.EINVAL, key)
        index: int = _U32.unpack(key)[0]
        if index >= self.max_entries:
            self._raise("map_update_elem", -Errno.E2BIG, key)
        prog = cast(MapProg, self._env.prog_by_fd(_U32.unpack(value)[0]))
        if not self.compatible(prog):
            detail = f"{self._who()}: program is of another kind than the array's programs"
            raise KernelError("map_update_elem", Errno.EINVAL, detail)
        prog.get()
        old = self._progs.get(index)
        self._progs[index] = prog
        if old is not None:
            old.put()

    def on_user_release(self) -> None:
        """Empty the array (``prog_array_map_clear``)."""
        for index in sorted(self._progs):
            self._progs.pop(index).put()

    def on_release(self) -> None:
        """Let go of the programs."""
        self.on_user_release()
        super().on_release()
