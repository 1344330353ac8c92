"""The unchanged objects of libbpf-tools that measure time, attached as their user space does (libbpf-tools/*.c).

Tasks do known things; histograms and records are those that follow from what each tool measures, in microseconds. What
programs and calls cost is under a microsecond each, and all times stay clear of the borders between slots.
"""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ebpfsim
from tracing.kallsyms import Kallsyms

FOLDER = Path(os.environ.get("EBPFSIM_WILD", Path(__file__).parents[2] / "build" / "wild"))
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no objects: make wild")

ALL = 0xFFFF_FFFF  # the key of histograms that are not kept apart
STACK = {"value_size": 127 * 8, "max_entries": 1024}
TRACING = ("raw_tp",)  # what is left out where tp_btf programs can be attached (probe_tp_btf)


class Lab:
    def __init__(self, cpus: int = 1) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.host = self.sim.host("h", cpus=cpus)

    def tool(
        self, name: str, rodata: dict[str, Any] | None = None, without: tuple[str, ...] = (), **maps: dict[str, int]
    ) -> Any:
        obj = self.host.open(FOLDER / f"libbpf-tools_{name}.o")
        for program in obj.programs.values():
            kind = program.section.partition("/")[0]
            program.autoload = kind not in TRACING and program.name not in without
        for variable, value in (rodata or {}).items():
            obj.rodata[variable] = value
        for map_name, attributes in maps.items():
            for attribute, value in attributes.items():
                setattr(obj.maps[map_name], attribute, value)
        obj.load()
        obj.attach()
        return obj

    def symbols(self, obj: Any, number: int) -> list[str]:
        names = Kallsyms(self.host.kernel)
        stack = self.host.bpf.map_lookup_elem(obj.maps["stackmap"].fd, number.to_bytes(4, "little"))
        addresses = [int.from_bytes(stack[at : at + 8], "little") for at in range(0, len(stack), 8)]
        return [names.name_of(address).partition("+")[0] for address in addresses if address]


def slots(histogram: Any) -> dict[int, int]:
    return {slot: count for slot, count in enumerate(histogram["slots"]) if count}


def slot(us: int) -> int:
    # log2l() of bits.bpf.h
    return us.bit_length() - 1 if us else 0


def counted(times_us: list[int]) -> dict[int, int]:
    return {slot(us): [slot(other) for other in times_us].count(slot(us)) for us in times_us}


@pytest.fixture
def lab() -> Lab:
    return Lab()


A = [{"compute": "6ms"}, {"sleep": "4ms"}, {"compute": "2ms"}]
B = [{"compute": "7ms"}]
# in ms: a 0-4, b 4-8, a 8-10, b 10-13, nobody, a 14-16


def test_runqlat(lab) -> None:
    obj = lab.tool("runqlat")
    lab.host.spawn("a", steps=A)
    lab.host.spawn("b", steps=B)
    lab.sim.run()
    # a waits for nothing, then b 4 ms, a 4 ms, b 2 ms, a for nothing
    assert slots(obj.maps["hists"][ALL]) == counted([0, 4000, 4000, 2000, 0])


def test_runqlat_of_each_process(lab) -> None:
    obj = lab.tool("runqlat", {"targ_per_process": True})
    a, b = lab.host.spawn("a", steps=A), lab.host.spawn("b", steps=B)
    lab.sim.run()
    found = {key: (histogram["comm"], slots(histogram)) for key, histogram in obj.maps["hists"].items()}
    assert found == {a.pid: ("a", counted([0, 4000, 0])), b.pid: ("b", counted([4000, 2000]))}


def test_runqslower(lab) -> None:
    obj = lab.tool("runqslower", {"min_us": 3000})
    events = lab.host.perf_buffer(obj.maps["events"])
    a, b = lab.host.spawn("a", steps=A), lab.host.spawn("b", steps=B)
    lab.sim.run()
    # struct event: char task[16]; char prev_task[16]; __u64 delta_us; pid_t pid, prev_pid
    shown = [
        (
            sample.data[:16].rstrip(b"\0"),
            sample.data[16:32].rstrip(b"\0"),
            int.from_bytes(sample.data[32:40], "little"),
            int.from_bytes(sample.data[40:44], "little"),
            int.from_bytes(sample.data[44:48], "little"),
        )
        for sample in events.consume()
    ]
    assert [row[:2] + row[3:] for row in shown] == [(b"b", b"a", b.pid, a.pid), (b"a", b"b", a.pid, b.pid)]
    assert all(4000 <= row[2] < 4010 for row in shown)


def test_cpudist_of_tasks_that_lost_the_cpu(lab) -> None:
    obj = lab.tool("cpudist", start={"max_entries": 1024}, hists={"max_entries": 1024})
    lab.host.spawn("a", steps=A)
    lab.host.spawn("b", steps=B)
    lab.sim.run()
    # what sleeps or exits is not counted; the idle task, from 13 to 14, never sleeps
    assert slots(obj.maps["hists"][ALL]) == counted([4000, 4000, 999])


def test_cpudist_off_cpu(lab) -> None:
    obj = lab.tool(
        "cpudist", {"targ_offcpu": True, "targ_per_process": True},
        start={"max_entries": 1024}, hists={"max_entries": 1024},
    )  # fmt: skip
    a, b = lab.host.spawn("a", steps=A), lab.host.spawn("b", steps=B)
    lab.sim.run()
    hists = obj.maps["hists"]
    # a: from 4 to 8, from 10 to 14; b: from 8 to 10
    assert slots(hists[a.pid]) == counted([4000, 4000])
    assert slots(hists[b.pid]) == counted([2000])


def test_offcputime(lab) -> None:
    obj = lab.tool("offcputime", {"state": -1}, stackmap=STACK)
    a, b = lab.host.spawn("a", steps=A), lab.host.spawn("b", steps=B)
    lab.sim.run()
    rows = {}
    for key, info in obj.maps["info"].items():
        names = lab.symbols(obj, key["kern_stack_id"])
        rows[key["pid"], names[2:][-3:][0]] = (info["comm"], info["delta"] // 1000, names)
    sleeping = rows[a.pid, "__x64_sys_clock_nanosleep"]
    assert sleeping[:2] == ("a", 4)
    assert [name for name in sleeping[2] if name in ("__schedule", "schedule", "hrtimer_nanosleep")] == [
        "__schedule", "schedule", "hrtimer_nanosleep",
    ]  # fmt: skip
    # of those that end nothing is known; the idle task goes by the number of its CPU
    others = {(pid, info[1]) for (pid, _), info in rows.items() if info is not sleeping and info[1] and pid}
    assert others == {(a.pid, 4), (b.pid, 2)}


def test_wakeuptime(lab) -> None:
    obj = lab.tool("wakeuptime", stackmap=STACK)
    host = lab.host
    waiter = host.spawn("waiter", steps=[{"sleep": "3ms"}])
    lab.sim.run()
    ((key, ns),) = [(key, ns) for key, ns in obj.maps["counts"].items() if key["target"] == "waiter"]
    assert waiter.pid
    assert key["waker"] == "swapper/0"
    assert 3_000_000 <= ns < 3_010_000
    names = lab.symbols(obj, key["w_k_stack_id"])
    assert [name for name in names if name in ("try_to_wake_up", "hrtimer_wakeup", "do_idle")] == [
        "try_to_wake_up", "hrtimer_wakeup", "do_idle",
    ]  # fmt: skip


def network(count: int) -> SimpleNamespace:
    lab = Lab()
    other = lab.sim.host("other")
    lab.sim.link(lab.host.nic("eth0", "10.0.0.1/24"), other.nic("eth0", "10.0.0.2/24"))
    return SimpleNamespace(lab=lab, host=lab.host, send=lambda: other.send("eth0", bytes(64), count=count, every="1ms"))


def test_softirqs() -> None:
    net = network(5)
    obj = net.lab.tool("softirqs", {"targ_ns": True})
    net.send()
    net.lab.sim.run()
    # how long NET_RX (3) took altogether
    counts = list(obj.bss["counts"])
    assert 5 * 128 <= counts.pop(3) < 5 * 1024
    assert counts == [0] * 9


def test_softirqs_as_histograms() -> None:
    net = network(5)
    obj = net.lab.tool("softirqs", {"targ_dist": True, "targ_ns": True})
    net.send()
    net.lab.sim.run()
    ((at, count),) = slots(obj.bss["hists"][3]).items()
    # a frame takes between 128 and 1023 ns
    assert count == 5
    assert 7 <= at <= 9


def test_hardirqs() -> None:
    net = network(5)
    obj = net.lab.tool("hardirqs", {"do_count": True}, without=("irq_handler_exit_btf",))
    net.send()
    net.lab.sim.run()
    assert [(key["name"], info["count"]) for key, info in obj.maps["infos"].items()] == [("eth0-0", 5)]


def test_hardirqs_time() -> None:
    net = network(5)
    obj = net.lab.tool("hardirqs", {"targ_ns": True})
    net.send()
    net.lab.sim.run()
    ((key, info),) = obj.maps["infos"].items()
    # an interrupt costs 600 ns (row irq of the cost profile), and the programs on top
    assert key["name"] == "eth0-0"
    assert 5 * 600 <= info["count"] <= 5 * 700


def test_capable(lab) -> None:
    obj = lab.tool("capable", {"my_pid": -1}, stackmap=STACK)
    events = lab.host.records(obj.maps["events"], "cap_event")
    task = lab.host.spawn("t", uid=7)
    # CAP_SETUID is 7; who is not root has none
    assert lab.host.syscall(task, "setuid", 0) == -1
    root = lab.host.spawn("root")
    assert lab.host.syscall(root, "setuid", 5) == 0
    rows = [record.value for record in events.read()]
    assert [(row["pid"], row["cap"], row["uid"], row["audit"], row["ret"], row["task"]) for row in rows] == [
        (task.pid, 7, 7, 1, -1, "t"), (root.pid, 7, 0, 1, 0, "root"),
    ]  # fmt: skip


def test_capable_with_stacks(lab) -> None:
    obj = lab.tool("capable", {"my_pid": -1, "kernel_stack": True}, stackmap=STACK)
    task = lab.host.spawn("t", uid=7)
    lab.host.syscall(task, "setuid", 0)
    ((key, _),) = list(obj.maps["info"].items())
    names = lab.symbols(obj, key["kern_stack_id"])
    # told when cap_capable() has returned
    wanted = ["security_capable", "__sys_setuid", "__x64_sys_setuid"]
    assert [name for name in names if name in wanted] == wanted


@pytest.mark.parametrize("units", [0, 1, 2])
def test_funclatency(lab, units) -> None:
    # USEC and MSEC divide what is measured in NSEC
    obj = lab.host.open(FOLDER / "libbpf-tools_funclatency.o")
    obj.rodata["units"] = units
    obj.load()
    # as attach_kprobes() does: the function is the user's
    lab.host.attach_kprobe(obj.programs["dummy_kprobe"], "hrtimer_nanosleep")
    lab.host.attach_kretprobe(obj.programs["dummy_kretprobe"], "hrtimer_nanosleep")
    lab.host.spawn("t", steps=[{"sleep": "3ms"}, {"sleep": "70us"}])
    lab.sim.run()
    times = [[3_001_000, 71_000], [3001, 71], [3, 0]][units]
    assert {at: count for at, count in enumerate(obj.bss["hist"]) if count} == counted(times)


def test_klockstat_attaches_to_locks_that_nothing_here_takes(lab) -> None:
    obj = lab.host.open(FOLDER / "libbpf-tools_klockstat.o")
    for program in obj.programs.values():
        # where trampolines can be attached, probes are left out (fentry_can_attach)
        program.autoload = program.section.startswith(("fentry/", "fexit/"))
    obj.load()
    obj.attach()
    task = lab.host.spawn("t")
    assert lab.host.syscall(task, "openat", "/etc/hostname") == 3
    # all of them are there, and what nothing calls is told
    assert "down_write_killable" in lab.host.kernel.functions.silent
