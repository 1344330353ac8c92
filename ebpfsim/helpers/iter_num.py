"""The iterator over numbers: bpf_iter_num_new(), _next(), _destroy() (kernel/bpf/bpf_iter.c, v6.18).

Its state of 8 bytes is the number given out last, and where to stop.
"""

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.flags import BPF_MAX_LOOPS

__all__ = ["KFUNCS"]


def iter_num_new(run: Run, it: int, start: int, end: int, _r4: int, _r5: int) -> int:
    """Begin at ``start``, to stop before ``end``: 0, EINVAL or E2BIG; after an error there are no numbers."""
    first, stop = s32(start), s32(end)
    error = Errno.EINVAL if first > stop else Errno.E2BIG if stop - first > BPF_MAX_LOOPS else 0
    _set(run, it, *((0, 0) if error else (first - 1, stop)))
    # the function returns int: the upper half of R0 is zero
    return u32(-error)


def iter_num_next(run: Run, it: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address of the next number, or 0 from the end on."""
    following, stop = s32(run.mem.load(it, 4) + 1), s32(run.mem.load(it + 4, 4))
    if following >= stop:
        _set(run, it, 0, 0)
        return 0
    run.mem.store(it, 4, u32(following))
    return it


def iter_num_destroy(run: Run, it: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Leave no numbers."""
    _set(run, it, 0, 0)
    return 0


def _set(run: Run, it: int, cur: int, end: int) -> None:
    run.mem.store(it, 4, u32(cur))
    run.mem.store(it + 4, 4, u32(end))


KFUNCS: dict[str, Helper] = {
    "bpf_iter_num_new": iter_num_new,
    "bpf_iter_num_next": iter_num_next,
    "bpf_iter_num_destroy": iter_num_destroy,
}
