"""Helpers about the function that a program is attached to (kernel/trace/bpf_trace.c and its inlining, v6.18).

In front of the context of a program on a trampoline lie the number of its words and the function's address.
"""

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["COOKIE", "ENTRY_IP", "HELPERS"]

# per-CPU: the cookie of the attachment by which the program under way was called; the function that a probe is at
COOKIE, ENTRY_IP = "bpf_cookie", "bpf_entry_ip"


def get_func_arg(run: Run, ctx: int, n: int, value: int, _r4: int, _r5: int) -> int:
    """Store a word of the arguments; EINVAL behind the last one."""
    if u32(n) >= run.mem.load(ctx - 8, 8):
        return -Errno.EINVAL
    run.mem.store(value, 8, run.mem.load(ctx + 8 * u32(n), 8))
    return 0


def get_func_ret(run: Run, ctx: int, value: int, _r3: int, _r4: int, _r5: int) -> int:
    """Store what the function returned; EOPNOTSUPP before it has."""
    if run.prog.expected_attach_type not in (AttachType.TRACE_FEXIT, AttachType.MODIFY_RETURN):
        return -Errno.EOPNOTSUPP
    count = run.mem.load(ctx - 8, 8)
    run.mem.store(value, 8, run.mem.load(ctx + 8 * count, 8))
    return 0


def get_func_arg_cnt(run: Run, ctx: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return how many words the arguments are."""
    return run.mem.load(ctx - 8, 8)


def get_func_ip(run: Run, ctx: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address of the function; of a probe elsewhere than at a function's beginning 0."""
    if run.prog.type == ProgType.TRACING:
        return run.mem.load(ctx - 16, 8)
    found = run.cpu.scratch.get(ENTRY_IP)
    return found if isinstance(found, int) else 0


def get_attach_cookie(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the number that the attachment was made with."""
    found = run.cpu.scratch.get(COOKIE)
    return found if isinstance(found, int) else 0


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_get_func_arg"]: get_func_arg,
    HELPER_IDS["bpf_get_func_ret"]: get_func_ret,
    HELPER_IDS["bpf_get_func_arg_cnt"]: get_func_arg_cnt,
    HELPER_IDS["bpf_get_func_ip"]: get_func_ip,
    HELPER_IDS["bpf_get_attach_cookie"]: get_attach_cookie,
}
