"""Debug mode: the values of maps as objects of their own (``ebpfsim.memory.objects``)."""

from typing import TYPE_CHECKING

from ebpfsim.maps.hash_table import HashTable
from ebpfsim.memory import KERNEL_BASE
from ebpfsim.memory.objects import Name

if TYPE_CHECKING:
    from ebpfsim.maps.array import ArrayMap
    from ebpfsim.maps.hash import HashMap

__all__ = ["TrackedHashTable", "hash_table", "track_values"]


def track_values(map_: "ArrayMap", count: int) -> None:
    """Make every value of an array an object; ``count`` are those of all CPUs."""
    objects = map_.mem.objects
    if objects is None:
        return
    entries, who = map_.max_entries, map_.title

    def name(index: int) -> str:
        cpu = f" of cpu {index // entries}" if map_.percpu else ""
        return f"value{cpu} of {who} key {index % entries}"

    objects.hide(map_.values, f"the memory of {who}")
    objects.part(map_.values, count * map_.elem_size, name, stride=map_.elem_size, length=map_.value_size)


def hash_table(map_: "HashMap", sizes: tuple[int, int, int]) -> HashTable:
    """Return the table of a hash map; ``sizes`` are those of a key, of all values of an element, and the entries."""
    table = HashTable if map_.mem.objects is None else TrackedHashTable
    made = table(map_.mem, map_.address, sizes, map_.element_header)
    if isinstance(made, TrackedHashTable):
        made.describe(map_)
    return made


class TrackedHashTable(HashTable):
    """A hash table whose keys and values are objects as long as they are in the table.

    A value that was deleted counts as freed at once. Its memory stays until programs that run are through, but it may
    be the next element's by then: other than KASAN this finds programs that use a value after they deleted it.
    """

    def describe(self, map_: "HashMap") -> None:
        """Say whose table this is; before the first element."""
        self._objects = self.mem.track()
        self._who, self._length, self._stride = map_.title, map_.value_size, map_.cpu_stride
        self._percpu = map_.percpu
        self._numbers: dict[int, tuple[int, int]] = {}  # of key and value, by element

    def add(self, elem: int) -> None:
        """Put an element into the table; key and value are alive."""
        super().add(elem)
        names = self._names(self.key(elem).hex())
        numbers = self._numbers.get(elem)
        if numbers is None:
            self._numbers[elem] = self._enter(KERNEL_BASE + elem, *names)
            return
        for number, name in zip(numbers, names, strict=True):
            self._objects.revive(number, name)

    def remove(self, elem: int) -> bool:
        """Take an element out; key and value are gone."""
        for number in self._numbers.get(elem, ()):
            self._objects.kill(number)
        return super().remove(elem)

    def replace(self, old: int, new: int) -> None:
        """Put an element in the place of another one that has the same key."""
        self.remove(old)
        self.add(new)

    def _enter(self, element: int, key_name: Name, value_name: Name) -> tuple[int, int]:
        objects, values_size = self._objects, self.elem_size - self.value_at
        objects.hide(objects.block_of(element), f"the memory of {self._who}")
        key = objects.part(element + self.key_at, self.key_size, key_name)
        value = objects.part(element + self.value_at, values_size, value_name, stride=self._stride, length=self._length)
        return key, value

    def _names(self, key: str) -> tuple[Name, Name]:
        def value(cpu: int) -> str:
            return f"value{f' of cpu {cpu}' if self._percpu else ''} of {self._who} key {key}"

        return f"key {key} of {self._who}", value
