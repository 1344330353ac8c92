"""Update of arrays as eBPF assembly: what ``ebpfsim.maps.array`` does in Python. Look-ups are inlined code."""

from ebpfsim.errnos import Errno
from ebpfsim.jit.routine import ASK_PYTHON
from ebpfsim.jit.routines.copy import copy_function, copy_text
from ebpfsim.maps.array import ArrayMap, PercpuArrayMap
from ebpfsim.maps.map import Map
from ebpfsim.uapi.flags import BPF_EXIST, BPF_NOEXIST

__all__ = ["update"]

IMM_MAX = (1 << 31) - 1


def update(map_: Map, _replaced: int = 0) -> str | None:
    """Return the text of bpf_map_update_elem() on an array, or None when that is Python's."""
    assert isinstance(map_, ArrayMap)
    stride = map_.cpu_stride if isinstance(map_, PercpuArrayMap) else 0
    if map_.record or max(map_.elem_size, map_.max_entries, stride) > IMM_MAX:
        return None
    size = map_.value_size
    return "\n".join(
        [
            f"r0 = {ASK_PYTHON}; if r4 > {BPF_EXIST} goto out",
            f"r5 = *(u32 *)(r2 + 0); r0 = {-Errno.E2BIG}; if r5 >= {map_.max_entries} goto out",
            f"r0 = {-Errno.EEXIST}; if r4 == {BPF_NOEXIST} goto out",
            f"r6 = {map_.values:#x} ll; r5 *= {map_.elem_size}; r6 += r5",
            f"call bpf_get_smp_processor_id; r0 *= {stride}; r6 += r0" if stride else "",
            copy_text("copy", size, ("r6", 0), "r3", "r7"),
            "r0 = 0",
            "out: exit",
            copy_function("copy", size, ("r6", 0), "r3"),
        ]
    )
