"""Debug mode: the values of maps as objects of their own (``ebpfsim.memory.objects``)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebpfsim.maps.array import ArrayMap

__all__ = ["track_values"]


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
