"""BPF_MAP_TYPE_PROG_ARRAY: the programs that bpf_tail_call() reaches (kernel/bpf/arraymap.c, kernel/bpf/core.c, v6.18).

User space stores program descriptors and reads ids. The first program that uses or enters the array decides which
others may (``bpf_prog_map_compatible``). When user space lets go of the array it is emptied, even if programs hold it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.fd_array import FdArrayMap, Slot
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_XDP_DEV_BOUND_ONLY, BPF_F_XDP_HAS_FRAGS

__all__ = ["MapProg", "ProgArrayMap", "ProgHolder"]


class MapProg(Protocol):
    """What maps ask of a program: it is ``ebpfsim.progs.prog.Prog``, which lives on a floor above."""

    id: int
    type: ProgType
    expected_attach_type: AttachType
    prog_flags: int
    is_extended: bool
    prog_array_members: int

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


class ProgArrayMap(FdArrayMap, ProgHolder):
    """A program array; ``prog_at`` is what a tail call looks up.

    ``observers`` are told the index of a slot that has changed, before the program that left it may go: engines patch
    their code then (``prog_array_map_poke_run``).
    """

    readable_ids = True

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self.observers: list[Callable[[int], None]] = []

    def put_slot(self, index: int, new: Slot | None) -> Slot | None:
        """Fill or empty a slot, tell the observers, and return what was in it."""
        old = super().put_slot(index, new)
        if old is not None:
            cast(MapProg, old).prog_array_members -= 1
        for observer in self.observers:
            observer(index)
        return old

    def prog_at(self, index: int) -> MapProg | None:
        """Return the program in a slot, or None; any index may be asked for."""
        return cast(MapProg | None, self._slots.get(index))

    def take(self, fd: int) -> MapProg:
        """Return the program behind a descriptor: EINVAL for another kind than others, EBUSY for an extended one."""
        assert self._env is not None
        prog = cast(MapProg, self._env.prog_by_fd(fd))
        if prog.type == ProgType.EXT or not self.compatible(prog):
            detail = f"{self._who()}: program is of another kind than the array's programs"
            raise KernelError("map_update_elem", Errno.EINVAL, detail)
        if prog.is_extended:
            raise KernelError("map_update_elem", Errno.EBUSY, f"{self._who()}: a function of the program is replaced")
        prog.prog_array_members += 1
        prog.get()
        return prog

    def on_user_release(self) -> None:
        """Empty the array (``prog_array_map_clear``)."""
        self.clear()
