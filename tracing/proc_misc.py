"""What /proc says that is about no task (fs/proc_namespace.c, fs/proc/{uptime,stat}.c, kernel/kallsyms.c, v6.18).

Differs: of the time of CPUs there is what tasks that live have used, as user time, and nothing of interrupts and of
idling; mounts are told for all tasks alike; the kernel's functions are those that its BTF has, all of them global.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from ebpfsim.helpers.time import TAI_AT_BOOT_NS
from ebpfsim.verifier.ksym import KERNEL_TEXT
from hooks.text import FUNCTION_BYTES
from tracing.fs import task_of
from tracing.kallsyms import ASSEMBLY, Kallsyms, symbol_address
from tracing.sched import FIRST_PID
from tracing.task import TaskState

__all__ = ["FILES", "LINKS", "mountinfo_records", "mounts_records"]

CAP_SYSLOG = 34
USER_HZ_NS, NSEC_PER_SEC = 10_000_000, 1_000_000_000
CPU_COLUMNS, NR_SOFTIRQS = 10, 10
MNT_READONLY = 0x40
# show_mnt_opts(): mounts are relatime here
MNT_OPTIONS = {1: "nosuid", 2: "nodev", 4: "noexec"}
SPACES = {" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134"}


def _escaped(text: str) -> str:
    return "".join(SPACES.get(char, char) for char in text)


def _source(k: Any, mount: Any) -> str:
    # what is mounted from nothing goes by the name of the file system
    name = k.mem.read_string(mount.mnt_devname, 256).decode(errors="surrogateescape")
    return _escaped(name)


def _options(mount: Any) -> str:
    flags = mount.mnt_flags
    given = [name for bit, name in MNT_OPTIONS.items() if flags & bit]
    return ",".join(["ro" if flags & MNT_READONLY else "rw", *given, "relatime"])


def mounts_records(k: Any) -> list[str]:
    """Return the lines of ``mounts`` (``show_vfsmnt``)."""
    return [
        f"{_source(k, mount)} {_escaped(mount.root.path)} {mount.sb.fs.name} {_options(mount)} 0 0\n"
        for mount in k.vfs.mounts
    ]


def mountinfo_records(k: Any) -> list[str]:
    """Return the lines of ``mountinfo`` (``show_mountinfo``)."""
    numbers = {mount.address: mount.mnt_id for mount in k.vfs.mounts}
    return [
        f"{mount.mnt_id} {numbers.get(mount.mnt_parent, mount.mnt_id)} "
        f"{mount.sb.s_dev >> 20}:{mount.sb.s_dev & 0xFFFFF} / {_escaped(mount.root.path)} {_options(mount)} "
        f"- {mount.sb.fs.name} {_source(k, mount)} rw\n"
        for mount in k.vfs.mounts
    ]


def _filesystems(k: Any, _cpu: Cpu) -> list[str]:
    names = dict.fromkeys(sb.fs.name for sb in k.vfs.supers.values())
    return ["".join(f"nodev\t{name}\n" for name in names)]


def _uptime(_k: Any, cpu: Cpu) -> list[str]:
    seconds, rest = divmod(cpu.now_ns, NSEC_PER_SEC)
    return [f"{seconds}.{rest // USER_HZ_NS:02d} 0.00\n"]


def _stat(k: Any, _cpu: Cpu) -> list[str]:
    tasks = list(k.sched.tasks.values())
    used = [
        sum(k.sched.runtime_ns(task) for task in tasks if task.struct.cpu == cpu.number) // USER_HZ_NS for cpu in k.cpus
    ]
    rest = " 0" * (CPU_COLUMNS - 1)
    switches = sum(task.struct.nvcsw + task.struct.nivcsw for task in tasks)
    alive = [task.struct.state for task in tasks if task.alive and task is not k.sched.init]
    running = sum(state == TaskState.RUNNING for state in alive)
    blocked = sum(state == TaskState.UNINTERRUPTIBLE for state in alive)
    made = k.sched.newest.pid - FIRST_PID + 1 if k.sched.newest.pid >= FIRST_PID else 0
    return [
        f"cpu  {sum(used)}{rest}\n"
        + "".join(f"cpu{number} {ticks}{rest}\n" for number, ticks in enumerate(used))
        + f"intr 0\nctxt {switches}\nbtime {TAI_AT_BOOT_NS // NSEC_PER_SEC}\nprocesses {made}\n"
        + f"procs_running {running}\nprocs_blocked {blocked}\nsoftirq 0{' 0' * NR_SOFTIRQS}\n"
    ]


@cache
def _functions() -> list[tuple[int, str]]:
    btf = vmlinux()
    found = [(KERNEL_TEXT + FUNCTION_BYTES * number, btf.name_of(number)) for number in btf.ids_of_kind(Kind.FUNC)]
    return sorted([*found, *((symbol_address(name), name) for name in ASSEMBLY)])


def _kallsyms(k: Any, cpu: Cpu) -> list[str]:
    shows = bool(task_of(k, cpu).cred.cap_effective >> CAP_SYSLOG & 1)
    lines = [f"{address * shows:016x} T {name}\n" for address, name in _functions()]
    own = Kallsyms(k).bpf_symbols()
    return [*lines, *(f"{address * shows:016x} t {name}\t[bpf]\n" for address, _, name in own)]


# records of files at the top, and links there
FILES: Mapping[str, Callable[[Any, Cpu], list[str]]] = {
    "filesystems": _filesystems, "kallsyms": _kallsyms, "stat": _stat, "uptime": _uptime,
}  # fmt: skip
LINKS: Mapping[str, str] = {"mounts": "self/mounts", "net": "self/net"}
