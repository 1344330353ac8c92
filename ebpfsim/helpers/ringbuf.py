"""Helpers on ring buffers (kernel/bpf/ringbuf.c, v6.18); ``dynptr`` has more."""

from typing import cast

from ebpfsim.errnos import Errno
from ebpfsim.helpers.dynptr import LOCAL, Dynptr
from ebpfsim.helpers.native_text import native_text
from ebpfsim.maps.ringbuf import CONSUMER_PAGE, DATA_PAGE, MASK_OFF, RingbufMap, ringbuf_of_record
from ebpfsim.maps.user_ringbuf import BPF_MAX_USER_RINGBUF_SAMPLES, UserRingbufMap
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.memory.arena import PAGE_SHIFT
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.flags import (
    BPF_RB_FORCE_WAKEUP,
    BPF_RB_NO_WAKEUP,
    BPF_RINGBUF_BUSY_BIT,
    BPF_RINGBUF_DISCARD_BIT,
    BPF_RINGBUF_HDR_SZ,
)
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS"]


def ringbuf_output(run: Run, map_address: int, data: int, size: int, flags: int, _r5: int) -> int:
    """Copy a record into the ring: 0, EINVAL or EAGAIN."""
    ring = _ring(run, map_address)
    before = ring.wakeups
    result = ring.output(run.mem.read(data, size), flags)
    _charge_wakeup(run, ring, before)
    return result


def ringbuf_reserve(run: Run, map_address: int, size: int, flags: int, _r4: int, _r5: int) -> int:
    """Return the address of a new record, or 0."""
    return 0 if flags else _ring(run, map_address).reserve(size)


def _commit_text(bits: int) -> str:
    # without a consumer that waits for the record, and where it does not go on behind the end of the ring
    return f"""
        r0 = 1; r3 = r2; r3 &= {BPF_RB_FORCE_WAKEUP}; if r3 != 0 goto out
        r3 = r1; r3 += {-BPF_RINGBUF_HDR_SZ}; r4 = *(u32 *)(r3 + 0); r4 &= {BPF_RINGBUF_BUSY_BIT - 1}
        r5 = *(u32 *)(r3 + 4); r6 = r3; r6 >>= {PAGE_SHIFT}; r6 -= r5; r6 <<= {PAGE_SHIFT}
        r7 = *(u64 *)(r6 + {MASK_OFF}); r3 -= r6; r3 += {-DATA_PAGE * PAGE_SIZE}
        r8 = *(u64 *)(r6 + {CONSUMER_PAGE * PAGE_SIZE}); r8 &= r7; if r8 != r3 goto quiet
        r2 &= {BPF_RB_NO_WAKEUP}; if r2 == 0 goto out
        quiet: r3 += {BPF_RINGBUF_HDR_SZ}; r3 += r4; r7 += 1; if r3 > r7 goto out
        r4 |= {bits}; *(u32 *)(r1 + {-BPF_RINGBUF_HDR_SZ}) = r4; r0 = 0
        out: exit
    """


@native_text(_commit_text(0))
def ringbuf_submit(run: Run, sample: int, flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Make a record visible."""
    return _commit(run, sample, flags, discard=False)


@native_text(_commit_text(BPF_RINGBUF_DISCARD_BIT))
def ringbuf_discard(run: Run, sample: int, flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Mark a record as one to skip."""
    return _commit(run, sample, flags, discard=True)


def ringbuf_query(run: Run, map_address: int, what: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return a position or size of the ring; 0 for unknown questions."""
    return _ring(run, map_address).query(what)


def user_ringbuf_drain(run: Run, map_address: int, callback: int, callback_ctx: int, flags: int, _r5: int) -> int:
    """Call ``callback(sample, ctx)`` for what user space wrote, until it returns other than 0; return how often.

    A negative errno: EINVAL of flags, EBUSY inside of such a callback, and what ``peek`` says of nonsense.
    """
    ring = cast(UserRingbufMap, run.kernel.map_at(map_address))
    if flags & ~(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP):
        return -Errno.EINVAL
    if ring.busy:
        return -Errno.EBUSY
    ring.busy = True
    ptr = run.mem.alloc(16)
    try:
        result = _drain(run, ring, ptr, (callback, callback_ctx))
    finally:
        run.mem.free(ptr)
        ring.busy = False
    if flags & BPF_RB_FORCE_WAKEUP or (not flags & BPF_RB_NO_WAKEUP and result > 0):
        ring.wakeups += 1
        run.charge(run.kernel.costs.ps("ringbuf.wakeup"))
    return result


def _drain(run: Run, ring: UserRingbufMap, ptr: int, callback: tuple[int, int]) -> int:
    samples = 0
    for _ in range(BPF_MAX_USER_RINGBUF_SAMPLES):
        sample, size = ring.peek()
        if sample == -Errno.ENODATA:
            break
        if sample == -Errno.EAGAIN:
            continue
        if sample < 0:
            return sample
        Dynptr(sample, size, LOCAL, False, 0).write(run.mem, ptr)
        stop = run.call(callback[0], ptr, callback[1])
        ring.release(size)
        samples += 1
        if stop:
            break
    return samples


def _commit(run: Run, sample: int, flags: int, *, discard: bool) -> int:
    ring = _ring(run, ringbuf_of_record(run.mem, sample))
    before = ring.wakeups
    ring.commit(sample, flags, discard)
    _charge_wakeup(run, ring, before)
    return 0


def _ring(run: Run, map_address: int) -> RingbufMap:
    return cast(RingbufMap, run.kernel.map_at(map_address))


def _charge_wakeup(run: Run, ring: RingbufMap, before: int) -> None:
    if ring.wakeups != before:
        run.charge(run.kernel.costs.ps("ringbuf.wakeup"))


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_ringbuf_output"]: ringbuf_output,
    HELPER_IDS["bpf_ringbuf_reserve"]: ringbuf_reserve,
    HELPER_IDS["bpf_ringbuf_submit"]: ringbuf_submit,
    HELPER_IDS["bpf_ringbuf_discard"]: ringbuf_discard,
    HELPER_IDS["bpf_ringbuf_query"]: ringbuf_query,
    HELPER_IDS["bpf_user_ringbuf_drain"]: user_ringbuf_drain,
}
