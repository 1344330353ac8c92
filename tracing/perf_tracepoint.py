"""Programs on the records of trace events: perf events of tracepoints (kernel/trace/{bpf_trace,trace_event_perf}.c and
trace_syscalls.c, v6.18).

The first perf event of a trace event puts a probe on its tracepoint, behind what is there, and the last takes it away;
all programs of the event run in that place, first come first. Those of system calls share one probe for the way in and
one for the way out. Programs are skipped and counted while another one of perf or kprobes runs on the CPU.

Left out: samples of these events, and filters. Differs: the registers at the beginning of a record are all 0.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.helpers.trampoline import COOKIE
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.frame import pop_frame, push_frame
from hooks.link import Link, note
from hooks.run import bpf_prog_run
from tracing.kprobe import ACTIVE, OP
from tracing.records import BUILDERS, Values, syscall_number, syscall_values
from tracing.trace_events import SYSCALLS, TraceEvent, event_id, find_event, pack
from tracing.trace_pipe import CONTEXTS, PROBE_CONTEXT, enter_context, leave_context

__all__ = ["PerfTracepoints", "TracepointEvent", "TracepointLink"]

PERF_EVENT_TRACEPOINT = 5  # enum bpf_perf_event_type
BPF_TRACE_MAX_PROGS = 64  # kernel/trace/bpf_trace.c
REGS_BYTES = 176  # struct pt_regs, with padding to 16


class TracepointEvent(KernelObject):
    """A perf event of a trace event (perf_event_open() with PERF_TYPE_TRACEPOINT)."""

    fd_kind = FdKind.PERF_EVENT

    def __init__(self, owner: "PerfTracepoints", slot: "_Slot") -> None:
        super().__init__()
        self.owner = owner
        self.slot = slot
        self.user: TracepointLink | None = None
        slot.opened()

    def attach_prog(self, prog: Prog, cookie: int) -> "TracepointLink":
        """Attach a program to this event."""
        return self.owner.attach(prog, self, cookie)

    def on_release(self) -> None:
        """Close the event."""
        self.slot.closed()


class TracepointLink(Link):
    """A program on a perf event (``struct bpf_perf_link``)."""

    type: ClassVar[LinkType] = LinkType.PERF_EVENT

    def __init__(self, kernel: Any, prog: Prog, event: TracepointEvent, cookie: int, label: str = "") -> None:
        super().__init__(kernel, prog, AttachType.PERF_EVENT, label)
        self.event = event
        self.cookie = cookie
        self.attached = False

    def fill_link_info(self) -> dict[str, object]:
        """Return the fields of ``perf_event.tracepoint``."""
        name = self.event.slot.event.name
        return {
            "perf_event_type": PERF_EVENT_TRACEPOINT,
            "tp_name": name,
            "name_len": len(name) + 1,
            "cookie": self.cookie,
        }

    def release(self) -> None:
        """Take the program off the event, and let go of that."""
        if self.attached:
            self.attached = False
            self.event.slot.links.remove(self)
            self.event.user = None
            _note("detach", self)
            self.event.put()


class _Slot:
    # a trace event (struct trace_event_call): its programs, and how many perf events are open
    def __init__(self, owner: "PerfTracepoints", event: TraceEvent, tracepoint: str) -> None:
        self.owner, self.event, self.tracepoint = owner, event, tracepoint
        self.links: list[TracepointLink] = []
        self.count = 0

    def opened(self) -> None:
        self.count += 1
        if self.count == 1:
            self.owner.tracepoints.get(self.tracepoint).add_probe(self.probe)

    def closed(self) -> None:
        self.count -= 1
        if not self.count:
            self.owner.tracepoints.get(self.tracepoint).remove_probe(self.probe)

    def probe(self, cpu: Cpu, *args: int) -> None:
        # perf_trace_NAME()
        if self.links:
            self.owner.run(self, cpu, BUILDERS[self.event.full_name](self.owner.kernel, *args))


class _SyscallSlot(_Slot):
    # a system call's way in or out (sys_perf_refcount_enter, enabled_perf_enter_syscalls)
    def __init__(self, owner: "PerfTracepoints", event: TraceEvent, tracepoint: str) -> None:
        super().__init__(owner, event, tracepoint)
        self.is_exit = tracepoint == "sys_exit"
        self.names = tuple(member.name for member in event.members[1:])
        name = event.name.removeprefix(f"{tracepoint}_")
        self.nr = owner.kernel.syscalls.table[name].nr

    def opened(self) -> None:
        self.count += 1
        if self.count == 1:
            shared = self.owner.entered(self.tracepoint)
            shared.append(self)
            if len(shared) == 1:
                self.owner.tracepoints.get(self.tracepoint).add_probe(self.owner.probe_of(self.tracepoint))

    def closed(self) -> None:
        self.count -= 1
        if not self.count:
            shared = self.owner.entered(self.tracepoint)
            shared.remove(self)
            if not shared:
                self.owner.tracepoints.get(self.tracepoint).remove_probe(self.owner.probe_of(self.tracepoint))

    def probe(self, cpu: Cpu, *args: int) -> None:
        if self.links:
            self.owner.run(self, cpu, syscall_values(self.owner.kernel, self.is_exit, self.names, *args))


class PerfTracepoints:
    """The trace events of one kernel that have perf events."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.tracepoints = kernel.tracepoints
        self._slots: dict[str, _Slot] = {}
        self._entered: dict[str, list[_SyscallSlot]] = {"sys_enter": [], "sys_exit": []}
        self._probes = {"sys_enter": self._sys_enter, "sys_exit": self._sys_exit}

    def names(self) -> list[str]:
        """Return the full names of the events that are modelled."""
        calls = [name for name in self.kernel.syscalls.table if event_id(SYSCALLS, f"sys_enter_{name}")]
        return [*BUILDERS, *(f"{SYSCALLS}:sys_{way}_{name}" for name in sorted(calls) for way in ("enter", "exit"))]

    def open(self, category: str, name: str) -> TracepointEvent:
        """Return a perf event of a trace event: ENOENT, NotModelled when Linux has it and nothing here fires it."""
        full_name = f"{category}:{name}"
        slot = self._slots.get(full_name)
        if slot is None:
            if event_id(category, name) is None:
                raise KernelError("perf_event_open", Errno.ENOENT, f"no trace event '{full_name}'")
            if full_name not in self.names():
                raise NotModelled(f"tracepoint {full_name}", "tracing/records.py")
            event = find_event(full_name)
            if category == SYSCALLS:
                slot = _SyscallSlot(self, event, name[: name.index("_", 4)])
            else:
                slot = _Slot(self, event, name)
            self._slots[full_name] = slot
        return TracepointEvent(self, slot)

    def attach(self, prog: Prog, event: TracepointEvent, cookie: int = 0, label: str = "") -> TracepointLink:
        """Attach a program to an event (perf_event_attach_bpf_prog): EINVAL, EACCES, EEXIST, E2BIG."""
        slot = event.slot
        if prog.type != ProgType.TRACEPOINT:
            raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' is not for a tracepoint")
        if prog.max_ctx_offset > slot.event.size:
            problem = f"program '{prog.name}' reads {prog.max_ctx_offset} bytes of a record of {slot.event.size}"
            raise KernelError(OP, Errno.EACCES, problem)
        if event.user is not None:
            raise KernelError(OP, Errno.EEXIST, f"the event has program '{event.user.prog.name}'")
        if len(slot.links) >= BPF_TRACE_MAX_PROGS:
            raise KernelError(OP, Errno.E2BIG, f"{len(slot.links)} programs on {slot.event.full_name}")
        if any(link.prog is prog for link in slot.links):
            raise KernelError(OP, Errno.EEXIST, f"program '{prog.name}' is on {slot.event.full_name}")
        link = TracepointLink(self.kernel, prog, event, cookie, label)
        event.get()
        event.user, link.attached = link, True
        slot.links.append(link)
        _note("attach", link)
        return link

    def run(self, slot: _Slot, cpu: Cpu, values: Values) -> None:
        """Run an event's programs on a record (perf_trace_run_bpf_submit, trace_call_bpf)."""
        kernel, record = self.kernel, pack(slot.event, values)
        links = tuple(slot.links)
        if cpu.scratch.get(ACTIVE):
            for link in links:
                link.prog.stats.recursion_misses += 1
            return
        size = REGS_BYTES + -(-len(record) // 16) * 16
        frame = push_frame(kernel.mem, cpu, size)
        kernel.mem.write(frame, bytes(REGS_BYTES) + frame.to_bytes(8, "little") + record[8:])
        scratch = cpu.scratch
        saved, scratch[ACTIVE] = scratch.get(COOKIE), 1
        before = enter_context(scratch, CONTEXTS.get(slot.tracepoint, PROBE_CONTEXT))
        try:
            for link in links:
                scratch[COOKIE] = link.cookie
                self._run(link, frame + REGS_BYTES, cpu)
        finally:
            leave_context(scratch, before)
            scratch[COOKIE], scratch[ACTIVE] = saved, 0
            pop_frame(kernel.mem, cpu, frame, size)

    def entered(self, tracepoint: str) -> list[_SyscallSlot]:
        """Return the system calls with perf events on their way in or out."""
        return self._entered[tracepoint]

    def probe_of(self, tracepoint: str) -> Any:
        """Return the probe that they share."""
        return self._probes[tracepoint]

    def _sys_enter(self, cpu: Cpu, *args: int) -> None:
        self._dispatch(self._entered["sys_enter"], cpu, args)

    def _sys_exit(self, cpu: Cpu, *args: int) -> None:
        self._dispatch(self._entered["sys_exit"], cpu, args)

    def _dispatch(self, slots: Iterable[_SyscallSlot], cpu: Cpu, args: tuple[int, ...]) -> None:
        nr = syscall_number(self.kernel, args[0])
        for slot in tuple(slots):
            if slot.nr == nr:
                slot.probe(cpu, *args)

    def _run(self, link: TracepointLink, ctx: int, cpu: Cpu) -> None:
        kernel, prog, start_ns = self.kernel, link.prog, cpu.now_ns
        charge_ps = kernel.costs.ps("tracepoint")
        cpu.charge(charge_ps)
        ran = bpf_prog_run(kernel, prog, ctx, cpu, kernel.execute)
        link.stats.count("", ran.cost_ps + charge_ps, 0)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                start_ns, kernel.name, cpu.number, "tracepoint", link.event.slot.event.full_name, link.label, prog.id,
                prog.name, ran.retval, "", ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on


def _note(kind: str, link: TracepointLink) -> None:
    target = link.event.slot.event.full_name
    text = f"tracepoint {kind}: program '{link.prog.name}' (id {link.prog.id}), {target}"
    details: dict[str, int | str] = {
        "hook": "tracepoint", "target": target, "prog_id": link.prog.id, "link": link.label,
    }  # fmt: skip
    note(link.kernel, kind, text, details)
