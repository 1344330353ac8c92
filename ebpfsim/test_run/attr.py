"""What test runs of all program types share: input, errors, contexts, repetition (net/bpf/test_run.c, v6.18)."""

from dataclasses import dataclass
from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.alu import s32, u32
from ebpfsim.jit.batch import run_repeatedly
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from netstack.bpf_net_context import bpf_net_context

__all__ = ["ETH_HLEN", "OP", "TestRunAttr", "TestRunError", "ctx_init", "finish", "run_repeated"]

OP = "prog_test_run"
ETH_HLEN = 14


@dataclass(frozen=True, slots=True)
class TestRunAttr:
    """The input of a test run by the names of ``union bpf_attr``; ``data_size_out`` None takes whatever comes out."""

    __test__ = False

    data_in: bytes = b""
    ctx_in: bytes = b""
    data_size_out: int | None = None
    repeat: int = 1
    flags: int = 0
    cpu: int = 0
    batch_size: int = 0


class TestRunError(KernelError):
    """A run whose output did not fit (ENOSPC): ``data_size_out`` is its size, ``retval`` what came of the run."""

    __test__ = False

    def __init__(self, data_size_out: int, retval: int, room: int) -> None:
        self.data_size_out, self.retval = data_size_out, retval
        super().__init__(OP, Errno.ENOSPC, f"{data_size_out} bytes of packet, room for {room}")


def finish(kernel: Any, attr: TestRunAttr, data_out: bytes, retval: int) -> bytes:
    """Return what goes back to the caller of the data (``bpf_test_finish``); TestRunError when it does not fit.

    Programs on the tracepoint see the errno, and those that may write there change it.
    """
    too_much = bool(attr.data_size_out) and len(data_out) > (attr.data_size_out or 0)
    if kernel.tracepoints.observed("bpf_test_finish"):
        found = _told(kernel, -Errno.ENOSPC if too_much else 0)
        if found and found != -Errno.ENOSPC:
            raise KernelError(OP, Errno(-found), "a program on bpf_test_finish says so")
        too_much = bool(found)
    if too_much:
        raise TestRunError(len(data_out), retval, attr.data_size_out or 0)
    return data_out if attr.data_size_out != 0 else b""


def _told(kernel: Any, err: int) -> int:
    address = kernel.mem.alloc(4)
    kernel.mem.store(address, 4, u32(err))
    kernel.trace(kernel.cpus[0], "bpf_test_finish", address)
    found = s32(kernel.mem.load(address, 4))
    kernel.mem.free(address)
    return found


def refuse_settings(attr: TestRunAttr, *names: str) -> None:
    """Refuse (EINVAL) settings that a program type does not take, by their names in ``TestRunAttr``."""
    for name in names:
        value = getattr(attr, name)
        if value:
            raise KernelError(OP, Errno.EINVAL, f"{name} {value!r}" if isinstance(value, int) else name)


def ctx_init(data: bytes, size: int, struct: str) -> bytes:
    """Return the context that the caller gives, ``size`` bytes or none; E2BIG when a longer one goes on with more."""
    # bpf_ctx_init()
    if not data:
        return b""
    if any(data[size:]) or len(data) > PAGE_SIZE:
        raise KernelError(OP, Errno.E2BIG, f"ctx_in of {len(data)} bytes, {struct} has {size}")
    return data[:size].ljust(size, b"\0")


def run_repeated(prog: Prog, ctx: int, cpu: Cpu, repeat: int, stats_enabled: bool) -> tuple[int, int]:
    """Run a program again and again and return the last R0 and the mean time in nanoseconds (``bpf_test_run``)."""
    before_ps = cpu.elapsed_ps
    with bpf_net_context(cpu):
        retval = run_repeatedly(prog, ctx, cpu, repeat)
    total_ps, cpu.elapsed_ps = cpu.elapsed_ps - before_ps, before_ps
    if stats_enabled:
        prog.stats.run_cnt += repeat
        prog.stats.run_time_ns += total_ps // 1000
    return retval, total_ps // 1000 // repeat
