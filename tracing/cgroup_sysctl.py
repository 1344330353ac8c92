"""Programs of control groups on switches of /proc/sys, and their helpers (kernel/bpf/cgroup.c, v6.18)."""

from dataclasses import dataclass
from struct import Struct

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u64
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from tracing.fs import FsKernel, task_of

__all__ = ["HELPERS", "run_filter_sysctl"]

PAGE_SIZE = 4096
BPF_F_SYSCTL_BASE_NAME = 1
# struct bpf_sysctl_kern: head, table, cur_val, cur_len, new_val, new_len, new_updated, write, ppos, tmp_reg; programs
# read write and what ppos leads to
KERN = Struct("<QQQQQQiiQQ")
# per CPU: what the helpers of the program under way tell and change
SYSCTL = "bpf_sysctl_kern"


@dataclass(slots=True)
class _Sysctl:
    name: str
    is_write: bool
    current: bytes
    new: bytes
    updated: bool = False


def run_filter_sysctl(
    k: FsKernel, cpu: Cpu, name: str, current: bytes, data: bytes, iocb: int, *, is_write: bool
) -> tuple[int, bytes]:
    """Ask about a switch that is read or written: 0 or a negative errno, and what is to be written.

    ``__cgroup_bpf_run_filter_sysctl``: programs may change where the file goes on (``iocb``).
    """
    kind, group = AttachType.CGROUP_SYSCTL, task_of(k, cpu).cgroup
    items = group.effective.get(kind) if group is not None else None
    if not items:
        return 0, data
    asked = _Sysctl(name, is_write, current, data[:PAGE_SIZE])
    ctx = k.mem.alloc(KERN.size, what="struct bpf_sysctl_kern")
    outer, cpu.scratch[SYSCTL] = cpu.scratch.get(SYSCTL), asked
    try:
        ppos = iocb + place("kiocb", "ki_pos")[0]
        k.mem.write(ctx, KERN.pack(0, 0, 0, len(current), 0, len(data), 0, is_write, ppos, 0))
        err = k.cgroup_runner.run_array(items, ctx, cpu, kind)[0]
    finally:
        cpu.scratch[SYSCTL] = outer
        k.mem.free(ctx)
    return err, asked.new if asked.updated else data


def _asked(run: Run) -> _Sysctl:
    found = run.cpu.scratch[SYSCTL]
    assert isinstance(found, _Sysctl)
    return found


def bpf_sysctl_get_name(run: Run, _ctx: int, buf: int, buf_len: int, flags: int, _r5: int) -> int:
    """Copy the path below /proc/sys, or its last name: its length, E2BIG where it was cut. Other flags do nothing."""
    path = _asked(run).name.replace(".", "/")
    text = (path.rpartition("/")[2] if flags & BPF_F_SYSCTL_BASE_NAME else path).encode()
    return _strscpy(run, buf, buf_len, text)


def _strscpy(run: Run, buf: int, size: int, text: bytes) -> int:
    # piece by piece in the kernel: a cut leaves a NUL behind what fits
    if not size:
        return u64(-Errno.E2BIG)
    run.mem.write(buf, text[: size - 1] + b"\0")
    return len(text) if len(text) < size else u64(-Errno.E2BIG)


def _copy_value(run: Run, buf: int, size: int, value: bytes) -> int:
    # copy_sysctl_value()
    if not buf:
        return u64(-Errno.EINVAL)
    if not size:
        return u64(-Errno.E2BIG)
    if size > len(value):
        run.mem.write(buf, value.ljust(size, b"\0"))
        return len(value) or u64(-Errno.EINVAL)
    run.mem.write(buf, value[: size - 1] + b"\0")
    return u64(-Errno.E2BIG)


def bpf_sysctl_get_current_value(run: Run, _ctx: int, buf: int, size: int, _r4: int, _r5: int) -> int:
    """Copy what a read gives, with its newline: its length, E2BIG where it was cut."""
    return _copy_value(run, buf, size, _asked(run).current)


def bpf_sysctl_get_new_value(run: Run, _ctx: int, buf: int, size: int, _r4: int, _r5: int) -> int:
    """Copy what is to be written: its length, E2BIG where it was cut, EINVAL for a read."""
    asked = _asked(run)
    return _copy_value(run, buf, size, asked.new if asked.is_write else b"")


def bpf_sysctl_set_new_value(run: Run, _ctx: int, buf: int, size: int, _r4: int, _r5: int) -> int:
    """Have something else written: EINVAL for a read or an empty write, E2BIG from a page on."""
    asked = _asked(run)
    if not asked.is_write or not asked.new or not buf or not size:
        return u64(-Errno.EINVAL)
    if size > PAGE_SIZE - 1:
        return u64(-Errno.E2BIG)
    asked.new, asked.updated = bytes(run.mem.read(buf, size)), True
    return 0


HELPERS: dict[int, Helper] = {
    HELPER_IDS[helper.__name__]: helper
    for helper in (
        *(bpf_sysctl_get_name, bpf_sysctl_get_current_value),
        *(bpf_sysctl_get_new_value, bpf_sysctl_set_new_value),
    )
}
