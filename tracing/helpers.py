"""Helpers that ask about the task that runs (kernel/bpf/helpers.c and kernel/trace/bpf_trace.c, v6.18).

``current`` is what the scheduler of the CPU runs; in an interrupt that is who was interrupted, often the idle task.
"""

from typing import Protocol, cast

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from tracing.sched import Scheduler
from tracing.task import Task

__all__ = ["HELPERS"]

TASK_COMM_LEN = 16
PIDNS_INFO_BYTES = 8  # sizeof(struct bpf_pidns_info)
PID_NS_INO = 0xEFFF_FFFC  # of /proc/1/ns/pid


class _TaskKernel(Protocol):
    @property
    def sched(self) -> Scheduler: ...


def current(run: Run) -> Task:
    """Return the task on the run's CPU."""
    return cast(_TaskKernel, run.kernel).sched.current(run.cpu)


def get_current_pid_tgid(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return ``tgid << 32 | pid``."""
    return current(run).pid_tgid


def get_current_uid_gid(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return ``gid << 32 | uid``."""
    cred = current(run).cred
    return cred.gid << 32 | cred.uid


def get_current_comm(run: Run, buf: int, size: int, _r3: int, _r4: int, _r5: int) -> int:
    """Copy the task's name, with zeroes behind it; what does not fit is cut (strscpy_pad)."""
    count = u32(size)
    name = current(run).comm.encode()[: min(count, TASK_COMM_LEN) - 1]
    run.mem.write(buf, name.ljust(count, b"\0"))
    return 0


def get_current_task(run: Run, _r1: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the address of the ``task_struct``."""
    return current(run).address


def get_ns_current_pid_tgid(run: Run, dev: int, ino: int, nsdata: int, size: int, _r5: int) -> int:
    """Store pid and tgid as the pid namespace with that device and inode has them; EINVAL for another one.

    Differs: a namespace is asked for by its inode alone; the device number of nsfs depends on what a system mounted.
    """
    if u32(size) != PIDNS_INFO_BYTES:
        run.mem.fill(nsdata, u32(size))
        return -Errno.EINVAL
    task = current(run)
    if ino != PID_NS_INO or dev >> 32:
        run.mem.fill(nsdata, PIDNS_INFO_BYTES)
        return -Errno.EINVAL
    run.mem.store(nsdata, 4, task.pid)
    run.mem.store(nsdata + 4, 4, task.tgid)
    return 0


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_get_current_pid_tgid"]: get_current_pid_tgid,
    HELPER_IDS["bpf_get_current_uid_gid"]: get_current_uid_gid,
    HELPER_IDS["bpf_get_current_comm"]: get_current_comm,
    HELPER_IDS["bpf_get_current_task"]: get_current_task,
    HELPER_IDS["bpf_get_current_task_btf"]: get_current_task,
    HELPER_IDS["bpf_get_ns_current_pid_tgid"]: get_ns_current_pid_tgid,
}
