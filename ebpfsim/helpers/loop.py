"""bpf_loop() (kernel/bpf/bpf_iter.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.flags import BPF_MAX_LOOPS
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS"]


def loop(run: Run, nr_loops: int, callback: int, callback_ctx: int, flags: int, _r5: int) -> int:
    """Call ``callback(index, callback_ctx)`` until it returns other than 0; return the number of calls made.

    Differs: always does what the inlined form does (``inline_bpf_loop`` in kernel/bpf/verifier.c), which the verifier
    takes when there is one callback and the flags are a constant 0, that is nearly always: it compares all 64 bits of
    ``nr_loops``, and its E2BIG has 32 bits.
    """
    if flags:
        return -Errno.EINVAL
    if nr_loops > BPF_MAX_LOOPS:
        return u32(-Errno.E2BIG)
    cost_ps = run.kernel.costs.ps("bpf_loop.inlined")
    for index in range(nr_loops):
        run.charge(cost_ps)
        # callbacks of bpf_loop() return long
        if run.call(callback, index, callback_ctx):
            return index + 1
    return nr_loops


HELPERS: dict[int, Helper] = {HELPER_IDS["bpf_loop"]: loop}
