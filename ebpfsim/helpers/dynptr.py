"""Dynptrs when the program runs (kernel/bpf/helpers.c and ringbuf.c, v6.18).

``struct bpf_dynptr_kern`` takes 16 bytes of the program's stack: the address of the memory (0: the dynptr is NULL), its
size with the kind in bits 28 to 30 and a read-only mark in bit 31, and the offset at which the view begins. Of a frame
the address is that of the ``struct xdp_buff``.

Left out: dynptrs of socket buffers. Differs: a writable slice of a frame must lie in its linear part.
"""

from typing import NamedTuple, cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import u32
from ebpfsim.maps.ringbuf import RingbufMap, ringbuf_of_record
from ebpfsim.memory import Memory
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "KFUNCS"]

LOCAL, RINGBUF, SKB, XDP = 1, 2, 3, 4
MAX_SIZE = (1 << 24) - 1
TYPE_SHIFT, RDONLY_BIT = 28, 1 << 31
_IN_MEMORY = (LOCAL, RINGBUF)
_XDP_LENGTH = HELPER_IDS["bpf_xdp_get_buff_len"]
_XDP_LOAD, _XDP_STORE = HELPER_IDS["bpf_xdp_load_bytes"], HELPER_IDS["bpf_xdp_store_bytes"]


class Dynptr(NamedTuple):
    """``struct bpf_dynptr_kern``, its size word taken apart."""

    data: int
    size: int
    type: int
    rdonly: bool
    offset: int

    @classmethod
    def read(cls, mem: Memory, address: int) -> "Dynptr":
        """Return what lies in memory."""
        word = mem.load(address + 8, 4)
        kind = (word & ~RDONLY_BIT) >> TYPE_SHIFT
        offset = mem.load(address + 12, 4)
        return cls(mem.load(address, 8), word & MAX_SIZE, kind, bool(word & RDONLY_BIT), offset)

    def write(self, mem: Memory, address: int) -> None:
        """Put it into memory."""
        word = self.size | self.type << TYPE_SHIFT | (RDONLY_BIT if self.rdonly else 0)
        mem.store(address, 8, self.data)
        mem.store(address + 8, 4, word)
        mem.store(address + 12, 4, self.offset)

    def holds(self, offset: int, size: int) -> bool:
        """Say whether a range lies inside (``bpf_dynptr_check_off_len``)."""
        return size <= self.size and offset <= self.size - size


def _set_null(mem: Memory, address: int) -> None:
    mem.fill(address, 16)


def _init(run: Run, address: int, data: int, kind: int, size: int) -> int:
    Dynptr(data, size, kind, False, 0).write(run.mem, address)
    return 0


def dynptr_from_mem(run: Run, data: int, size: int, flags: int, ptr: int, _r5: int) -> int:
    """Make a dynptr of a map value: 0, E2BIG or EINVAL."""
    size = u32(size)
    error = Errno.E2BIG if size > MAX_SIZE else Errno.EINVAL if flags else 0
    if error:
        _set_null(run.mem, ptr)
        return -error
    return _init(run, ptr, data, LOCAL, size)


def ringbuf_reserve_dynptr(run: Run, map_address: int, size: int, flags: int, ptr: int, _r5: int) -> int:
    """Reserve a record: 0, EINVAL or E2BIG; the dynptr of an error is NULL, and must be given back too."""
    size = u32(size)
    sample = 0
    error = Errno.EINVAL if flags else Errno.E2BIG if size > MAX_SIZE else 0
    if not error:
        sample = cast(RingbufMap, run.kernel.map_at(map_address)).reserve(size)
        error = 0 if sample else Errno.EINVAL
    if error:
        _set_null(run.mem, ptr)
        return -error
    return _init(run, ptr, sample, RINGBUF, size)


def ringbuf_submit_dynptr(run: Run, ptr: int, flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Make the record visible, unless there is none."""
    return _commit(run, ptr, flags, discard=False)


def ringbuf_discard_dynptr(run: Run, ptr: int, flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Mark the record as one to skip, unless there is none."""
    return _commit(run, ptr, flags, discard=True)


def _commit(run: Run, ptr: int, flags: int, *, discard: bool) -> int:
    sample = run.mem.load(ptr, 8)
    if sample:
        ring = cast(RingbufMap, run.kernel.map_at(ringbuf_of_record(run.mem, sample)))
        before = ring.wakeups
        ring.commit(sample, flags, discard)
        if ring.wakeups != before:
            run.charge(run.kernel.costs.ps("ringbuf.wakeup"))
        _set_null(run.mem, ptr)
    return 0


def dynptr_read(run: Run, dst: int, size: int, src: int, offset: int, flags: int) -> int:
    """Copy bytes out: 0, EINVAL of NULL or flags, E2BIG past the end (``__bpf_dynptr_read``)."""
    ptr = Dynptr.read(run.mem, src)
    if not ptr.data or flags:
        return -Errno.EINVAL
    if not ptr.holds(offset, size):
        return -Errno.E2BIG
    if ptr.type in _IN_MEMORY:
        run.mem.write(dst, run.mem.read(ptr.data + ptr.offset + offset, size))
        return 0
    return run.kernel.helpers[_XDP_LOAD](run, ptr.data, ptr.offset + offset, dst, size, 0)


def dynptr_write(run: Run, dst: int, offset: int, src: int, size: int, flags: int) -> int:
    """Copy bytes in: 0, EINVAL of NULL, read-only or flags, E2BIG past the end (``__bpf_dynptr_write``)."""
    ptr = Dynptr.read(run.mem, dst)
    if not ptr.data or ptr.rdonly:
        return -Errno.EINVAL
    if not ptr.holds(offset, size):
        return -Errno.E2BIG
    if flags:
        return -Errno.EINVAL
    if ptr.type in _IN_MEMORY:
        run.mem.write(ptr.data + ptr.offset + offset, run.mem.read(src, size))
        return 0
    return run.kernel.helpers[_XDP_STORE](run, ptr.data, ptr.offset + offset, src, size, 0)


def dynptr_data(run: Run, address: int, offset: int, size: int, _r4: int, _r5: int) -> int:
    """Return the address of bytes that a program may read and write, or 0; frames have none."""
    ptr = Dynptr.read(run.mem, address)
    offset, size = u32(offset), u32(size)
    if not ptr.data or not ptr.holds(offset, size) or ptr.rdonly or ptr.type not in _IN_MEMORY:
        return 0
    return ptr.data + ptr.offset + offset


def dynptr_slice(run: Run, address: int, offset: int, buffer: int, size: int, _r5: int) -> int:
    """Return the address of bytes, copied to ``buffer`` if they lie in pieces and there is one; or 0."""
    ptr = Dynptr.read(run.mem, address)
    offset, size = u32(offset), u32(size)
    if not ptr.data or not ptr.holds(offset, size):
        return 0
    at = _linear(run.mem, ptr, offset, size)
    if at or not buffer:
        return at
    return buffer if not dynptr_read(run, buffer, size, address, offset, 0) else 0


def dynptr_slice_rdwr(run: Run, address: int, offset: int, buffer: int, size: int, _r5: int) -> int:
    """Return the address of bytes to be changed, or 0."""
    ptr = Dynptr.read(run.mem, address)
    offset, size = u32(offset), u32(size)
    if not ptr.data or ptr.rdonly or not ptr.holds(offset, size):
        return 0
    at = _linear(run.mem, ptr, offset, size)
    if not at:
        raise NotModelled("writable slice of a frame's fragments", "kernel/bpf/helpers.c")
    return at


def _linear(mem: Memory, ptr: Dynptr, offset: int, size: int) -> int:
    # the address of a range that lies in one piece
    offset += ptr.offset
    if ptr.type in _IN_MEMORY:
        return ptr.data + offset
    # struct xdp_buff: data, data_end
    data, data_end = mem.load(ptr.data, 8), mem.load(ptr.data + 8, 8)
    return data + offset if offset + size <= data_end - data else 0


def dynptr_from_xdp(run: Run, xdp: int, flags: int, ptr: int, _r4: int, _r5: int) -> int:
    """Make a dynptr of a frame: 0, or EINVAL of flags."""
    if flags:
        _set_null(run.mem, ptr)
        return u32(-Errno.EINVAL)
    return _init(run, ptr, xdp, XDP, run.kernel.helpers[_XDP_LENGTH](run, xdp, 0, 0, 0, 0))


def dynptr_adjust(run: Run, address: int, start: int, end: int, _r4: int, _r5: int) -> int:
    """Narrow the view to bytes ``start`` to ``end``: 0, EINVAL or ERANGE."""
    ptr = Dynptr.read(run.mem, address)
    start, end = u32(start), u32(end)
    if not ptr.data or start > end:
        return u32(-Errno.EINVAL)
    if end > ptr.size:
        return u32(-Errno.ERANGE)
    ptr._replace(offset=ptr.offset + start, size=end - start).write(run.mem, address)
    return 0


def dynptr_is_null(run: Run, address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Say whether there is no memory behind it."""
    return int(not run.mem.load(address, 8))


def dynptr_is_rdonly(run: Run, address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Say whether the memory must not be written."""
    ptr = Dynptr.read(run.mem, address)
    return int(bool(ptr.data) and ptr.rdonly)


def dynptr_size(run: Run, address: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the size of the view, or EINVAL of NULL."""
    ptr = Dynptr.read(run.mem, address)
    return ptr.size if ptr.data else u32(-Errno.EINVAL)


def dynptr_clone(run: Run, address: int, clone: int, _r3: int, _r4: int, _r5: int) -> int:
    """Copy the dynptr, not its memory: 0, or EINVAL of NULL."""
    ptr = Dynptr.read(run.mem, address)
    if not ptr.data:
        _set_null(run.mem, clone)
        return u32(-Errno.EINVAL)
    ptr.write(run.mem, clone)
    return 0


def dynptr_memset(run: Run, address: int, offset: int, size: int, value: int, _r5: int) -> int:
    """Fill bytes: 0, EINVAL of read-only ones, E2BIG past the end (that of NULL is 0)."""
    ptr = Dynptr.read(run.mem, address)
    offset, size = u32(offset), u32(size)
    if ptr.rdonly:
        return u32(-Errno.EINVAL)
    if not ptr.holds(offset, size):
        return u32(-Errno.E2BIG)
    if not ptr.data:
        return 0
    at = _linear(run.mem, ptr, offset, size)
    if not at:
        raise NotModelled("bpf_dynptr_memset() in a frame's fragments", "kernel/bpf/helpers.c")
    run.mem.fill(at, size, value & 0xFF)
    return 0


def dynptr_copy(run: Run, dst: int, dst_off: int, src: int, src_off: int, size: int) -> int:
    """Copy bytes from dynptr to dynptr: 0, or what reading or writing says."""
    to, from_ = Dynptr.read(run.mem, dst), Dynptr.read(run.mem, src)
    dst_off, src_off, size = u32(dst_off), u32(src_off), u32(size)
    source = _linear(run.mem, from_, src_off, size) if from_.data and from_.holds(src_off, size) else 0
    if source:
        return u32(dynptr_write(run, dst, dst_off, source, size, 0))
    target = _linear(run.mem, to, dst_off, size) if to.data and not to.rdonly and to.holds(dst_off, size) else 0
    if target:
        return u32(dynptr_read(run, target, size, src, src_off, 0))
    if from_.data and to.data and from_.holds(src_off, size) and to.holds(dst_off, size):
        raise NotModelled("bpf_dynptr_copy() between fragments of frames", "kernel/bpf/helpers.c")
    return u32(-Errno.E2BIG)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_dynptr_from_mem"]: dynptr_from_mem,
    HELPER_IDS["bpf_ringbuf_reserve_dynptr"]: ringbuf_reserve_dynptr,
    HELPER_IDS["bpf_ringbuf_submit_dynptr"]: ringbuf_submit_dynptr,
    HELPER_IDS["bpf_ringbuf_discard_dynptr"]: ringbuf_discard_dynptr,
    HELPER_IDS["bpf_dynptr_read"]: dynptr_read,
    HELPER_IDS["bpf_dynptr_write"]: dynptr_write,
    HELPER_IDS["bpf_dynptr_data"]: dynptr_data,
}

KFUNCS: dict[str, Helper] = {
    "bpf_dynptr_from_xdp": dynptr_from_xdp,
    "bpf_dynptr_slice": dynptr_slice,
    "bpf_dynptr_slice_rdwr": dynptr_slice_rdwr,
    "bpf_dynptr_adjust": dynptr_adjust,
    "bpf_dynptr_is_null": dynptr_is_null,
    "bpf_dynptr_is_rdonly": dynptr_is_rdonly,
    "bpf_dynptr_size": dynptr_size,
    "bpf_dynptr_clone": dynptr_clone,
    "bpf_dynptr_memset": dynptr_memset,
    "bpf_dynptr_copy": dynptr_copy,
}
