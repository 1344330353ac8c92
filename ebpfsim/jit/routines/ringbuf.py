"""Records of ring buffers as eBPF assembly: what ``reserve`` and ``output`` of ``ebpfsim.maps.ringbuf`` do in Python.

A record that the consumer waits for, or that goes on behind the end of the ring, is Python's.
"""

from ebpfsim.errnos import Errno
from ebpfsim.jit.routine import ASK_PYTHON
from ebpfsim.maps.map import Map
from ebpfsim.maps.ringbuf import (
    CONSUMER_PAGE,
    DATA_PAGE,
    PENDING_POS_OFF,
    PRODUCER_PAGE,
    RINGBUF_MAX_RECORD_SZ,
    RingbufMap,
)
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.memory.arena import PAGE_SHIFT
from ebpfsim.uapi.flags import (
    BPF_RB_FORCE_WAKEUP,
    BPF_RB_NO_WAKEUP,
    BPF_RINGBUF_BUSY_BIT,
    BPF_RINGBUF_DISCARD_BIT,
    BPF_RINGBUF_HDR_SZ,
)

__all__ = ["output", "reserve"]

IMM_MAX = (1 << 31) - 1
CONSUMER, PRODUCER, DATA = (page * PAGE_SIZE for page in (CONSUMER_PAGE, PRODUCER_PAGE, DATA_PAGE))
PENDING = PRODUCER + PENDING_POS_OFF


def reserve(map_: Map, _replaced: int = 0) -> str | None:
    """Return the text of bpf_ringbuf_reserve(), or None when that is Python's."""
    assert isinstance(map_, RingbufMap)
    if map_.ring_size > IMM_MAX:
        return None
    return f"""
        r0 = 0; if r3 != 0 goto out
        {_room(map_, "r2")}
        {_pending(map_)}
        {_header(map_, "r2", BPF_RINGBUF_BUSY_BIT)}
        r0 = r9; r0 += {DATA + BPF_RINGBUF_HDR_SZ}
        out: exit
    """


def output(map_: Map, _replaced: int = 0) -> str | None:
    """Return the text of bpf_ringbuf_output(), or None when that is Python's."""
    assert isinstance(map_, RingbufMap)
    size, header = map_.ring_size, BPF_RINGBUF_HDR_SZ
    if size > IMM_MAX:
        return None
    return f"""
        r0 = {-Errno.EINVAL}; r5 = r4; r5 &= {~(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP)}; if r5 != 0 goto out
        r5 = r4; r5 &= {BPF_RB_FORCE_WAKEUP}; if r5 != 0 goto ask
        r0 = {-Errno.EAGAIN}
        {_room(map_, "r3")}
        r8 ^= r6; r8 &= {size - 1}; if r8 != 0 goto quiet
        r4 &= {BPF_RB_NO_WAKEUP}; if r4 == 0 goto ask
        quiet: r8 = r6; r8 &= {size - 1}; r8 += {header}; r8 += r3; if r8 > {size} goto ask
        {_pending(map_)}
        {_header(map_, "r3", 0)}
        words: if r3 < 8 goto bytes
        r5 = *(u64 *)(r2 + 0); *(u64 *)(r9 + {DATA + header}) = r5; r2 += 8; r9 += 8; r3 += -8; goto words
        bytes: if r3 == 0 goto done
        r5 = *(u8 *)(r2 + 0); *(u8 *)(r9 + {DATA + header}) = r5; r2 += 1; r9 += 1; r3 += -1; goto bytes
        done: r0 = 0
        out: exit
        ask: r0 = {ASK_PYTHON}; exit
    """


def _room(ring: RingbufMap, size: str) -> str:
    # R6 and R7: where the record begins and ends; R8 what is consumed; R1 page 0
    return f"""
        if {size} > {RINGBUF_MAX_RECORD_SZ} goto out
        r7 = {size}; r7 += {BPF_RINGBUF_HDR_SZ + 7}; r7 &= -8; if r7 > {ring.ring_size} goto out
        r1 = {ring.base:#x} ll; r6 = *(u64 *)(r1 + {PRODUCER}); r7 += r6
        r8 = *(u64 *)(r1 + {CONSUMER}); r9 = r7; r9 -= r8; if r9 > {ring.ring_size - 1} goto out
    """


def _pending(ring: RingbufMap) -> str:
    return f"""
        r8 = *(u64 *)(r1 + {PENDING})
        pending: if r8 >= r6 goto settled
        r9 = r8; r9 &= {ring.ring_size - 1}; r9 += r1; r9 = *(u32 *)(r9 + {DATA}); if w9 s< 0 goto settled
        r9 &= {BPF_RINGBUF_DISCARD_BIT - 1}; r9 += {BPF_RINGBUF_HDR_SZ + 7}; r9 &= -8; r8 += r9; goto pending
        settled: *(u64 *)(r1 + {PENDING}) = r8
        r9 = r7; r9 -= r8; if r9 > {ring.ring_size - 1} goto out
    """


def _header(ring: RingbufMap, size: str, bits: int) -> str:
    # R9: page 0, and the record's place in the ring
    busy = f"r5 = {bits:#x} ll; r8 |= r5" if bits else ""
    return f"""
        r9 = r6; r9 &= {ring.ring_size - 1}; r8 = r9; r8 += {DATA}; r8 >>= {PAGE_SHIFT}; r8 <<= 32; r8 |= {size}; {busy}
        r9 += r1; *(u64 *)(r9 + {DATA}) = r8; *(u64 *)(r1 + {PRODUCER}) = r7
    """
