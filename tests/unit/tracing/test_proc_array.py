"""What /proc says about a task: the forms are those that files of Linux 6.18 had."""

import re
from typing import Any

import pytest
from proc_files import ProcTasks

# lines of /proc/PID/status of Linux 6.18, in their order
STATUS = """
Name Umask State Tgid Ngid Pid PPid TracerPid Uid Gid FDSize Groups NStgid NSpid NSpgid NSsid Kthread VmPeak VmSize
VmLck VmPin VmHWM VmRSS RssAnon RssFile RssShmem VmData VmStk VmExe VmLib VmPTE VmSwap HugetlbPages CoreDumping
THP_enabled untag_mask Threads SigQ SigPnd ShdPnd SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs
Seccomp Seccomp_filters Speculation_Store_Bypass SpeculationIndirectBranch Cpus_allowed Cpus_allowed_list Mems_allowed
Mems_allowed_list voluntary_ctxt_switches nonvoluntary_ctxt_switches
"""
SIGUSR1, SIG_BLOCK = 10, 0


@pytest.fixture(scope="module")
def tasks() -> ProcTasks:
    return ProcTasks()


def test_stat_has_52_fields(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        return tasks.task.pid, tasks.text("self/stat"), tasks.text("1/stat")

    pid, own, of_init = tasks.see(look)
    fields = own.split()
    assert len(fields) == 52
    assert fields[:8] == [str(pid), "(test)", "R", "1", str(pid), str(pid), "0", "-1"]
    # priority, nice, threads; the limit of memory; SIGCHLD at its end
    assert (fields[17:20], fields[24], fields[37]) == (["20", "0", "1"], str((1 << 64) - 1), "17")
    assert own.endswith(" 0\n")
    assert of_init.startswith("1 (init) ")


def test_addresses_are_for_those_who_may_look(tasks: ProcTasks) -> None:
    own, other = tasks.see(lambda tasks: (tasks.text("self/stat"), tasks.text("1/stat")), uid=1000)
    # arg_start is 0 then, and start_code is 1
    assert own.split()[47] != "0"
    assert (other.split()[25:27], other.split()[47]) == (["1", "1"], "0")


def test_status(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        mask = tasks.room.put((1 << SIGUSR1 - 1).to_bytes(8, "little"))
        tasks.call("rt_sigprocmask", SIG_BLOCK, mask, 0, 8)
        tasks.call("umask", 0o27)
        return tasks.text("self/status")

    text = tasks.see(look, uid=1000)
    rows = dict(line.split(":\t", 1) for line in text.splitlines())
    assert list(rows) == STATUS.split()
    assert (rows["Umask"], rows["State"], rows["Uid"]) == ("0027", "R (running)", "1000\t1000\t1000\t1000")
    assert (rows["SigBlk"], rows["CapEff"], rows["CapBnd"]) == ("0000000000000200", "0" * 16, "000001ffffffffff")
    assert re.fullmatch(r" {5,7}\d+ kB", rows["VmSize"])
    assert (rows["VmStk"], rows["Groups"], rows["FDSize"]) == ("     132 kB", " ", "64")


def test_maps(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> Any:
        end = tasks.call("brk", 0)
        tasks.call("brk", end + 0x3000)
        fd = tasks.open("/etc/hostname")
        at = tasks.call("mmap", 0, 4096, 1, 1, fd, 0)
        return at, tasks.text("self/maps").splitlines()

    at, lines = tasks.see(look)
    # as seq_pad() puts names at column 73
    assert all(re.match(r"[0-9a-f]{8,}-[0-9a-f]{8,} [r-][w-][x-][ps] [0-9a-f]{8} ..:.. \d+ ", line) for line in lines)
    named = {line[73:]: line for line in lines if line[73:]}
    assert list(named)[-3:] == ["[vvar]", "[vdso]", "[stack]"]
    assert named["[heap]"].split()[1] == "rw-p"
    assert named["/etc/hostname"].startswith(f"{at:08x}-{at + 4096:08x} r--s 00000000 00:01 ")
    starts = [int(line.split("-")[0], 16) for line in lines]
    assert starts == sorted(set(starts))


def test_small_files(tasks: ProcTasks) -> None:
    names = ("comm", "cmdline", "cgroup")
    assert tasks.see(lambda tasks: [tasks.text(f"self/{name}") for name in names]) == ["test\n", "test\0", "0::/t\n"]
