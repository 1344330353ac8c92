"""Safety of maps on the live kernel; what the commands do is asked of both kernels in maps/ and syscall/."""

import pytest

from ebpfsim.errors import InputError
from ebpfsim.uapi.bpf import MapType


@pytest.mark.live
@pytest.mark.parametrize(("value", "entries"), [(4, 0xFFFF_FFFF), (1 << 20, 65)])
def test_large_maps_are_refused_before_the_kernel_hears_of_them(live_bpf, value, entries) -> None:
    with pytest.raises(InputError, match=r"at most 67108864 here"):
        live_bpf.map_create(MapType.QUEUE, 0, value, entries)


@pytest.mark.live
def test_wrong_sizes_are_the_callers_fault(live_bpf) -> None:
    fd = live_bpf.map_create(MapType.HASH, 4, 8, 1, name="h")
    with pytest.raises(InputError, match="map 'h': key of 3 bytes, expected 4"):
        live_bpf.map_lookup_elem(fd, b"abc")
    with pytest.raises(InputError, match="map 'h': value of 4 bytes, expected 8"):
        live_bpf.map_update_elem(fd, bytes(4), bytes(4))


@pytest.mark.live
def test_unmapping(live_bpf) -> None:
    fd = live_bpf.map_create(MapType.RINGBUF, 0, 0, 4096)
    view = live_bpf.map_mmap(fd, 4096, writable=True)
    live_bpf.map_munmap(view)
    with pytest.raises(ValueError, match="released"):
        view[0]
