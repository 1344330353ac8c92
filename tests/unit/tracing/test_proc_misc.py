"""What /proc says that is about no task; forms as on Linux 6.18."""

import re

import pytest
from proc_files import ProcTasks


@pytest.fixture(scope="module")
def tasks() -> ProcTasks:
    return ProcTasks()


def test_mounts(tasks: ProcTasks) -> None:
    def look(tasks: ProcTasks) -> list[str]:
        tasks.call("mkdir", b"/tmp/a b\0", 0o755)
        tasks.call("mount", b"src\0", b"/tmp/a b\0", b"tmpfs\0", 0, 0)
        return [str(tasks.text(path)) for path in ("mounts", "self/mountinfo")]

    mounts, info = tasks.see(look)
    assert "none /proc proc rw,relatime 0 0\n" in mounts
    # show_mnt: white space as octal digits
    assert mounts.endswith("src /tmp/a\\040b tmpfs rw,relatime 0 0\n")
    rows = [line.split() for line in info.splitlines()]
    numbers = {row[4]: row[0] for row in rows}
    above = {row[4]: row[1] for row in rows}
    assert (above["/proc/sys"], above["/tmp/a\\040b"]) == (numbers["/proc"], numbers["/tmp"])
    assert all(re.fullmatch(r"\d+ \d+ \d+:\d+ / /\S* rw,relatime - \S+ \S+ rw", line) for line in info.splitlines())


def test_numbers(tasks: ProcTasks) -> None:
    uptime, stat, kinds = tasks.see(lambda tasks: [tasks.text(path) for path in ("uptime", "stat", "filesystems")])
    assert re.fullmatch(r"\d+\.\d\d \d+\.\d\d\n", uptime)
    names = [line.split()[0] for line in stat.splitlines()]
    others = ["intr", "ctxt", "btime", "processes", "procs_running", "procs_blocked", "softirq"]
    assert names == ["cpu", "cpu0", *others]
    sizes = {line.split()[0]: len(line.split()) for line in stat.splitlines()}
    assert (sizes["cpu"], sizes["cpu0"], sizes["softirq"]) == (11, 11, 12)
    assert "nodev\tproc\n" in kinds


def test_addresses_of_symbols_need_a_capability(tasks: ProcTasks) -> None:
    shown = tasks.see(lambda tasks: tasks.text("kallsyms", 4096)).splitlines()[0]
    hidden = tasks.see(lambda tasks: tasks.text("kallsyms", 4096), uid=1000).splitlines()[0]
    assert re.fullmatch(r"ffffffff[0-9a-f]{8} [tT] \w+", shown)
    assert hidden.split()[0] == "0" * 16
