"""Hash maps for user space: the routines of ``ebpfsim.jit.routines.hash``, called from Python."""

from collections.abc import Callable
from struct import Struct

from ebpfsim.jit import layout
from ebpfsim.jit.native import Record, native, record_pool
from ebpfsim.jit.routine import ASK_PYTHON, Routine, routine
from ebpfsim.jit.routines.hash import delete_text, find_text, shape_of, update_text
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.hash_of_maps import HashOfMapsMap
from ebpfsim.maps.map import SYSCALL_CPU, round_up8
from ebpfsim.memory import KERNEL_BASE

__all__ = ["HashCalls", "hash_calls"]

_ARGS = Struct("<4Q")
FLAGS = 4  # R4


class HashCalls:
    """The operations of user space on one map; key and value lie in the map's scratch area meanwhile."""

    def __init__(self, map_: HashMap, find: Routine, update: Routine, delete: Routine) -> None:
        self._routines = (find, update, delete)
        self._enter: Callable[[int], int] = native().enter
        self._buf = map_.mem.buf
        key = map_.scratch ^ KERNEL_BASE
        self._key = slice(key, key + map_.key_size)
        value = key + round_up8(map_.key_size)
        self._value = slice(value, value + map_.user_value_size)
        self._records = [self._record(map_, each) for each in self._routines]
        self._find, self._update, self._delete = (record.address for record in self._records)
        self._words = self._records[1].words

    def _record(self, map_: HashMap, each: Routine) -> Record:
        record = record_pool(map_.mem).take()
        _ARGS.pack_into(record.memory, 8, map_.address, self._key.start, self._value.start, 0)
        record.words[layout.W_CPU] = SYSCALL_CPU
        record.words[layout.W_ENTRY] = each.address
        return record

    def find(self, key: bytes) -> int:
        """Return the element of a key, or 0; that is no use of it."""
        self._buf[self._key] = key
        return self._enter(self._find)

    def update(self, key: bytes, value: bytes, flags: int) -> int | None:
        """Set a value, those of all CPUs; None when Python has to do it."""
        self._buf[self._key] = key
        self._buf[self._value] = value
        self._words[FLAGS] = flags
        result = self._enter(self._update)
        if not result:
            return 0
        return None if result == ASK_PYTHON else result - (1 << 64)

    def delete(self, key: bytes) -> int:
        """Remove a key."""
        self._buf[self._key] = key
        result = self._enter(self._delete)
        return result - (1 << 64) if result else 0


def hash_calls(map_: HashMap) -> HashCalls | None:
    """Return the operations on a map by machine code, or None where Python has to do them."""
    shape = shape_of(map_)
    if shape is None or map_.record or not map_.scratch or isinstance(map_, HashOfMapsMap):
        return None
    texts = find_text(shape), update_text(shape, 0, by_user=True), delete_text(shape)
    return HashCalls(map_, *(routine(text) for text in texts))
