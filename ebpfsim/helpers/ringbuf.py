"""Helpers on ring buffers (kernel/bpf/ringbuf.c, v6.18); ``dynptr`` has more."""

from typing import cast

from ebpfsim.errnos import Errno
from ebpfsim.helpers.dynptr import LOCAL, Dynptr
from ebpfsim.maps.ringbuf import RingbufMap, ringbuf_of_record
from ebpfsim.maps.user_ringbuf import BPF_MAX_USER_RINGBUF_SAMPLES, UserRingbufMap
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.flags import BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP
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


def ringbuf_submit(run: Run, sample: int, flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Make a record visible."""
    return _commit(run, sample, flags, discard=False)


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
