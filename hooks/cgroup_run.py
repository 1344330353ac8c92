"""Running the programs of a control group: ``bpf_prog_run_array_cg`` (kernel/bpf/cgroup.c, v6.18).

All programs of an effective array run, also after one has refused; the first refusal gives EPERM unless a program set
another errno (``bpf_set_retval``).
"""

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelOops, NotModelled
from ebpfsim.isa.alu import s32, u32, u64
from ebpfsim.maps.cgroup_storage import CgroupStorageMap
from ebpfsim.progs.runtime import Helper, Run, Runtime
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from hooks.cgroup import CgroupItem
from hooks.run import Execute, bpf_prog_run

__all__ = ["HELPERS", "CgroupRunner", "RunCtx", "is_errno"]

MAX_ERRNO = 4095  # include/linux/err.h
RUN_CTX = "bpf_cg_run_ctx"
# per CPU: whose value of a map the program under way gets
STORAGE = "bpf_cgroup_storage"


class RunCtx:
    """``struct bpf_cg_run_ctx``: what bpf_get_retval() reads and bpf_set_retval() writes."""

    def __init__(self, retval: int) -> None:
        self.retval = retval


class CgroupRunner:
    """Runs the programs of cgroups of one simulated kernel."""

    def __init__(self, kernel: Runtime, execute: Execute) -> None:
        self._kernel = kernel
        self._execute = execute
        row = "call.indirect" if kernel.config.mitigations == "off" else "call.indirect.retpoline"
        self._call_ps = kernel.costs.ps(row)

    def run_array(
        self, items: tuple[CgroupItem, ...], ctx: int, cpu: Cpu, kind: AttachType, *, split: bool = False
    ) -> tuple[int, int]:
        """Return 0 or a negative errno, and the flags of programs of which ``split`` takes bit 0 only as an answer."""
        retval, flags = self.run_with(RunCtx(0), items, ctx, cpu, kind, split=split)
        # a retval that is no error stands for a bad address (ret && !IS_ERR_VALUE)
        return retval if not retval or is_errno(retval) else -Errno.EFAULT, flags

    def run_with(
        self,
        run_ctx: RunCtx,
        items: tuple[CgroupItem, ...],
        ctx: int,
        cpu: Cpu,
        kind: AttachType,
        *,
        split: bool = False,
    ) -> tuple[int, int]:
        """Return what the system call would return as programs have it, and flags."""
        flags = 0
        outer = cpu.scratch.get(RUN_CTX)
        cpu.scratch[RUN_CTX] = run_ctx
        try:
            for item in items:
                result = self._bpf_prog_run(item, ctx, cpu, kind)
                if split:
                    flags |= result >> 1
                    result &= 1
                if not result and not is_errno(run_ctx.retval):
                    run_ctx.retval = -Errno.EPERM
        finally:
            cpu.scratch[RUN_CTX] = outer
        return run_ctx.retval, flags

    def _bpf_prog_run(self, item: CgroupItem, ctx: int, cpu: Cpu, kind: AttachType) -> int:
        kernel, prog, time_ns = self._kernel, item.prog, cpu.now_ns
        before, cpu.scratch[STORAGE] = cpu.scratch.get(STORAGE), (item.cgroup_id, kind)
        try:
            ran = bpf_prog_run(kernel, prog, ctx, cpu, self._execute, self._call_ps)
        finally:
            cpu.scratch[STORAGE] = before
        verdict = "allow" if ran.retval & 1 else "deny"
        item.stats.count(verdict, self._call_ps + ran.cost_ps, self._call_ps + ran.cost_ps)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                time_ns, kernel.name, cpu.number, kind.lower, "", item.label, prog.id, prog.name,
                ran.retval, verdict, ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on
        return ran.retval


def is_errno(value: int) -> bool:
    """Return whether a result is a negative errno (IS_ERR_VALUE)."""
    return -MAX_ERRNO <= value < 0


def _run_ctx(run: Run) -> RunCtx:
    found = run.cpu.scratch.get(RUN_CTX)
    return found if isinstance(found, RunCtx) else RunCtx(0)


def bpf_get_retval(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return what the system call would return as things stand."""
    return u64(_run_ctx(run).retval)


def bpf_set_retval(run: Run, retval: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Set what the system call returns; the program's own result still says yes or no."""
    _run_ctx(run).retval = s32(u32(retval))
    return 0


def bpf_get_local_storage(run: Run, map_address: int, _flags: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address of the value of the attachment by which the program runs, and of the CPU."""
    key, map_ = run.cpu.scratch.get(STORAGE), run.kernel.map_at(map_address)
    if not isinstance(map_, CgroupStorageMap):
        raise KernelOops(f"bpf_get_local_storage() on a {map_.type.lower}", run.prog.name)
    if not isinstance(key, tuple):
        raise NotModelled("storage of control groups in test runs", "net/bpf/test_run.c")
    return map_.attach(*key) + (run.cpu.number * map_.cpu_stride if map_.percpu else 0)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_get_local_storage"]: bpf_get_local_storage,
    HELPER_IDS["bpf_get_retval"]: bpf_get_retval,
    HELPER_IDS["bpf_set_retval"]: bpf_set_retval,
}
