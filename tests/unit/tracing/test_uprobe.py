"""Probes on functions of user space. Facts: hooks-6.12.md, section 2, measured on Linux 6.12 and 6.18:

- "uprobe a,b uretprobe r,s: b a FUNC s r (LIFO both); cookie ok; func_ip = user address (uprobe and uretprobe); regs.ip
  = function start; uretprobe ip = caller; ax = return"
- "uprobe.multi errors: bad offset -EINVAL, pid absent -ESRCH, pid -1 -EINVAL, flags 2 -EINVAL"; "perf offset beyond
  file -EINVAL"; "sleepable on uprobe ok"
"""

from struct import unpack
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InputError, KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.tasks import HostTask
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType

APP = "/usr/bin/app"
# ip, di, si, dx, cx, r8, r9, ax, the word behind the return address, func_ip, cookie
SEEN = """
    r6 = r1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = map[seen] ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r7 = r0
    r1 = *(u64 *)(r6 + 128)
    *(u64 *)(r7 + 0) = r1
    r1 = *(u64 *)(r6 + 112)
    *(u64 *)(r7 + 8) = r1
    r1 = *(u64 *)(r6 + 104)
    *(u64 *)(r7 + 16) = r1
    r1 = *(u64 *)(r6 + 96)
    *(u64 *)(r7 + 24) = r1
    r1 = *(u64 *)(r6 + 88)
    *(u64 *)(r7 + 32) = r1
    r1 = *(u64 *)(r6 + 72)
    *(u64 *)(r7 + 40) = r1
    r1 = *(u64 *)(r6 + 64)
    *(u64 *)(r7 + 48) = r1
    r1 = *(u64 *)(r6 + 80)
    *(u64 *)(r7 + 56) = r1
    r3 = *(u64 *)(r6 + 152)
    r3 += 8
    r1 = r7
    r1 += 64
    r2 = 8
    call bpf_probe_read_user
    r1 = r6
    call bpf_get_func_ip
    *(u64 *)(r7 + 72) = r0
    r1 = r6
    call bpf_get_attach_cookie
    *(u64 *)(r7 + 80) = r0
out:
    r0 = 0
    exit
"""


class Machine:
    """A host with a binary, and a task that calls what is asked."""

    def __init__(self) -> None:
        self.host = Simulation(seed=1).host("h")
        self.host.user_binary(APP, ["first", "second", "third"])
        self.maps = {"seen": self.host.bpf.map_create(MapType.ARRAY, 4, 88, 1)}

    def prog(self, text: str = "r0 = 0; exit", expected: int = 0, flags: int = 0) -> Any:
        insns = encode(assemble(text, maps=self.maps))
        return self.host.bpf.prog_load(ProgType.KPROBE, insns, expected_attach_type=expected, prog_flags=flags).fd

    def seen(self) -> tuple[int, ...]:
        return unpack("<11Q", self.host.bpf.map_lookup_elem(self.maps["seen"], bytes(4)))

    def call(self, *steps: Any) -> HostTask:
        task = self.host.spawn("app", steps=list(steps))
        self.host.sim.run()
        return task

    def order(self) -> list[str]:
        return [run.link for run in self.host.sim.recorder.runs]


def test_order_of_probes_is_last_first_at_both_ends() -> None:
    machine = Machine()
    for name, back in (("a", False), ("b", False), ("r", True), ("s", True)):
        machine.host.attach_uprobe(machine.prog(), APP, "first", retprobe=back, label=name)
    task = machine.call({"call": [f"{APP}:first"], "returns": -7}, {"call": f"{APP}:second"})
    assert machine.order() == ["b", "a", "s", "r"]
    assert [result.retval for result in task.results] == [-7, 0]


def test_registers_at_the_entry() -> None:
    machine = Machine()
    machine.host.attach_uprobe(machine.prog(SEEN), APP, "second", cookie=77)
    machine.call({"call": [f"{APP}:second", 1, 2, 3, 4, 5, -1, 7]})
    ip, *args = machine.seen()
    binary = machine.host.kernel.uprobes.binaries[APP]
    start = binary.base + binary.functions["second"].offset
    assert args == [1, 2, 3, 4, 5, (1 << 64) - 1, 0, 7, start, 77]
    assert ip == start


def test_registers_at_the_return() -> None:
    machine = Machine()
    machine.host.attach_uprobe(machine.prog(SEEN), APP, "second", retprobe=True)
    machine.call({"call": [f"{APP}:second", 1], "returns": 42, "takes": "5us"})
    ip, di, *_, ax, _, func_ip, _ = machine.seen()
    binary = machine.host.kernel.uprobes.binaries[APP]
    assert (di, ax, func_ip) == (1, 42, binary.base + binary.functions["second"].offset)
    assert ip != func_ip


def test_time_between_entry_and_return() -> None:
    machine = Machine()
    for back in (False, True):
        machine.host.attach_uprobe(machine.prog(), APP, "first", retprobe=back, label=str(back))
    machine.call({"call": f"{APP}:first", "takes": "1ms"})
    begin, end = (run.time_ns for run in machine.host.sim.recorder.runs)
    assert 1_000_000 <= end - begin < 1_010_000


def test_only_the_process_that_was_named() -> None:
    machine = Machine()
    host = machine.host
    one, two = host.spawn("one"), host.spawn("two")
    host.attach_uprobe(machine.prog(), APP, "first", pid=one.pid, label="mine")
    host.attach_uprobe_multi(machine.prog(expected=48), APP, "fir*", pid=two.pid, label="multi")
    for task in (one, two, two):
        host.syscall(task, "call", f"{APP}:first")
    assert machine.order() == ["mine", "multi", "multi"]


def test_one_link_on_many_functions() -> None:
    machine = Machine()
    prog = machine.prog(SEEN, AttachType.TRACE_UPROBE_MULTI)
    link = machine.host.attach_uprobe_multi(prog, APP, ["first", "third"], cookies=[5, 6], label="m")
    machine.call({"call": f"{APP}:third"}, {"call": f"{APP}:second"})
    assert machine.seen()[10] == 6
    machine.call({"call": f"{APP}:first"})
    assert (machine.seen()[10], link.runs) == (5, 2)
    info = link.info()
    assert (info["path"], info["count"], info["cookies"], info["flags"]) == (APP, 2, [5, 6], 0)
    link.close()
    machine.call({"call": f"{APP}:first"})
    assert link.runs == 2


@pytest.mark.parametrize(("result", "runs"), [(0, 2), (1, 1)])
def test_session_runs_at_both_ends_unless_it_says_no(result: int, runs: int) -> None:
    machine = Machine()
    prog = machine.prog(f"r0 = {result}; exit", AttachType.TRACE_UPROBE_SESSION)
    link = machine.host.attach_uprobe_multi(prog, APP, "first")
    machine.call({"call": f"{APP}:first"})
    assert link.runs == runs


def test_programs_may_sleep() -> None:
    machine = Machine()
    text = """
        r3 = *(u64 *)(r1 + 112)
        r1 = r10
        r1 += -8
        r2 = 8
        call bpf_copy_from_user
        r3 = r10
        r3 += -8
        *(u32 *)(r10 - 12) = 0
        r2 = r10
        r2 += -12
        r1 = map[text] ll
        r4 = 0
        call bpf_map_update_elem
        r0 = 0
        exit
    """
    machine.maps["text"] = machine.host.bpf.map_create(MapType.ARRAY, 4, 8, 1)
    machine.host.attach_uprobe(machine.prog(text, flags=1 << 4), APP, "first")
    machine.call({"call": [f"{APP}:first", "abcdefg"]})
    assert machine.host.bpf.map_lookup_elem(machine.maps["text"], bytes(4)) == b"abcdefg\0"


def test_errors_of_events_and_links() -> None:
    machine = Machine()
    uprobes, bpf = machine.host.kernel.uprobes, machine.host.bpf
    for path, offset, pid, errno in ((APP, 1 << 20, -1, "EINVAL"), ("/none", 0, -1, "ENOENT"), (APP, 0, 4711, "ESRCH")):
        with pytest.raises(KernelError, match=errno):
            uprobes.open(path, offset, pid=pid)
    multi = machine.prog(expected=AttachType.TRACE_UPROBE_MULTI)
    offset = uprobes.binaries[APP].functions["first"].offset
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"offsets": [1 << 20]}, "EINVAL"), ({"pid": 4711}, "ESRCH"),
        ({"pid": -1}, "EINVAL"), ({"offsets": []}, "EINVAL"),
        ({"uprobe_multi_flags": 2}, "EINVAL"), ({"cookies": [1, 2]}, "EINVAL"), ({"path": "/none"}, "ENOENT"),
    ]  # fmt: skip
    for changes, errno in wrong:
        opts = {"path": APP, "offsets": [offset]} | changes
        with pytest.raises(KernelError, match=errno):
            bpf.link_create(multi, 0, AttachType.TRACE_UPROBE_MULTI, **opts)
    assert bpf.link_create(multi, 0, AttachType.TRACE_UPROBE_MULTI, path=APP, offsets=[offset]) > 0
    with pytest.raises(KernelError, match="EINVAL"):
        machine.host.attach_uprobe(multi, APP, "first")
    event = uprobes.open(APP, offset)
    fd = machine.host.kernel.fds.install(event)
    link = bpf.link_create(machine.prog(), fd, AttachType.PERF_EVENT, bpf_cookie=9)
    info = bpf.obj_get_info_by_fd(link)
    assert (info.perf_event_type, info.file_name, info.offset, info.cookie) == (1, APP, offset, 9)
    with pytest.raises(KernelError, match="EEXIST"):
        bpf.link_create(machine.prog(), fd, AttachType.PERF_EVENT)


def test_calls_that_lead_nowhere() -> None:
    machine = Machine()
    with pytest.raises(InputError, match="no function 'frist'"):
        machine.call({"call": f"{APP}:frist"})
    with pytest.raises(InputError, match="no binary"):
        Machine().call({"call": "/usr/bin/ap:first"})
    with pytest.raises(KernelError, match="no function 'frist'; did you mean 'first'"):
        machine.host.attach_uprobe(machine.prog(), APP, "frist")


def test_probes_inside_a_function_come_behind_its_entry() -> None:
    machine = Machine()
    for name, offset in (("eight", 8), ("four", 4), ("entry", 0)):
        machine.host.attach_uprobe(machine.prog(), APP, "first", offset=offset, label=name)
    machine.host.attach_uprobe(machine.prog(), APP, "first", retprobe=True, label="return")
    machine.call({"call": f"{APP}:first"})
    assert machine.order() == ["entry", "four", "eight", "return"]
    machine.call({"call": f"{APP}:second"})
    assert len(machine.order()) == 4
