"""The order of functions, security hooks and tracepoints in 241 scenarios: that of Linux 6.12 (``task_scenarios``)."""

import difflib

import pytest
from task_scenarios import compared, modelled, recorded

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux

# whose recording says something of that moment: the state of a file or a device, another task of that Linux
BY_CHANCE = "linkat_follow mount_enodev open_excl_new perf_bpf_output perf_software read_efault readlinkat write_efault"
# where the model differs, most often in what fork, exec and exit do for memory, or in name spaces and mounts
DIFFERENT = (
    "affinity execve_enoexec execve_script execve_static exit_code fallocate_punch fault_readonly fcntl_getlk "
    "fcntl_setlk fifo_open_nonblock flock fork_cow fork_exit_wait futex_timeout futex_wait_wake getpid_family "
    "getrlimit_setrlimit getrusage_times kill_stop_cont listxattr_removexattr memfd mlock_munlock mmap_over "
    "mmap_populate mount_bind mount_remount_ro mount_umount mremap_grow mremap_move open_symlink_absolute "
    "open_tmpfile perf_tracepoint pipe_sigpipe_kills prctl_dumpable prlimit_other ptrace_attach ptrace_seize_esrch "
    "ptrace_traceme readv_writev segv_kills setpgid_setsid setsid sigtimedwait sigtimedwait_timeout splice_file_pipe "
    "symlink_loop sync tgkill_ignored thread thread_exit_group umount_busy unshare_net_ipc unshare_newns vfork_exec "
    "vfork_exit wait_killed_child wait_nohang waitid"
)
# with a system call that is not modelled
NOT_MODELLED = (
    "alarm chroot clock_gettime inotify inotify_event pidfd posix_timer seccomp_strict sethostname setitimer "
    "setns_uts signalfd sigqueue timerfd"
)
OTHERS = f"{BY_CHANCE} {DIFFERENT} {NOT_MODELLED}".split()
SCENARIOS = [name for name in recorded()["scenarios"] if name not in OTHERS]
SHARE = 4  # of the scenarios by default
# in percent, which may only rise: functions that Linux 6.18 has in its BTF, security hooks, tracepoints
FUNCTIONS, HOOKS, TRACEPOINTS = 52, 100, 85


def same(scenario: str) -> None:
    for ours, linux in zip(*compared(scenario), strict=True):
        assert ours == linux, "\n".join(difflib.unified_diff(linux, ours, "Linux", "ebpfsim", lineterm="", n=2))


@pytest.mark.parametrize("scenario", SCENARIOS[::SHARE])
def test_order_is_that_of_linux(scenario: str) -> None:
    same(scenario)


@pytest.mark.long
@pytest.mark.parametrize("scenario", [name for at, name in enumerate(SCENARIOS) if at % SHARE])
def test_order_is_that_of_linux_in_the_others(scenario: str) -> None:
    same(scenario)


def test_coverage_only_rises() -> None:
    data, (functions, events) = recorded(), modelled()
    left_out = tuple(data["events_left_out"])
    seen = {name for name in data["names"] if not name.startswith(left_out)}
    hooks = {name for name in seen if name.startswith("security_")}
    tracepoints = {name for name in seen if name.startswith("@")}
    possible = {name for name in seen - hooks - tracepoints if vmlinux().find(name, Kind.FUNC) is not None}
    parts = [(possible, functions), (hooks, functions), (tracepoints, events)]
    shares = [100 * len(part & there) // len(part) for part, there in parts]
    print(f"of {len(possible)} functions, {len(hooks)} hooks, {len(tracepoints)} tracepoints: {shares} %")
    assert all(share >= least for share, least in zip(shares, (FUNCTIONS, HOOKS, TRACEPOINTS), strict=True))
    assert len(SCENARIOS) >= 160
