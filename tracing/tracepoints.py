"""Tracepoints and the programs on them: raw_tp, tp_btf (kernel/trace/bpf_trace.c, kernel/bpf/syscall.c, v6.18).

A tracepoint is called through its slot, as functions are (``kernel.tracepoints.sched_switch(cpu, ...)``); without
programs the slot does nothing. Arguments are those of the kernel's BTF (``btf_trace_NAME``) without the first, word by
word. Programs run in the order in which they came, each once at a time on a CPU.

``Tracepoints.fired`` are those that something here calls; a program on another one is NotModelled. Probes that are no
programs stand in the same row (``Tracepoint.add_probe``): the records of ``tracing.perf_tracepoint``.
"""

from collections.abc import Callable
from dataclasses import replace
from struct import Struct
from typing import Any, ClassVar

from ebpfsim.btf.types import FuncProto, Kind, Ptr
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.helpers.trampoline import COOKIE
from ebpfsim.isa.alu import M64
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.frame import pop_frame, push_frame
from hooks.link import Link, note
from hooks.run import Execute, bpf_prog_run
from hooks.tracing import TracingKernel
from tracing.functions import word
from tracing.trace_pipe import CONTEXTS, PROBE_CONTEXT, enter_context, leave_context

__all__ = ["SCHED_TRACEPOINTS", "SYSCALL_TRACEPOINTS", "RawTpLink", "Tracepoint", "Tracepoints", "raw_tp_link_attach"]

PREFIX = "btf_trace_"
OP = "raw_tracepoint_open"
# tracepoints whose programs may write to the buffer that the first argument is, and its bytes (DEFINE_EVENT_WRITABLE)
WRITABLE = {"bpf_test_finish": 4, "nbd_send_request": 28}

# those that the scheduler calls (``tracing.sched``)
SCHED_TRACEPOINTS = (
    *("sched_process_fork", "sched_wakeup_new", "sched_waking", "sched_wakeup", "sched_switch", "sched_process_exit"),
    *("sched_stat_runtime", "sched_migrate_task", "sched_process_wait", "task_newtask", "cpu_idle"),
    *("hrtimer_start", "hrtimer_expire_entry", "hrtimer_expire_exit", "hrtimer_cancel"),
    *("local_timer_entry", "local_timer_exit"),
)
# those of system calls (``tracing.syscalls``, ``tracing.process``)
SYSCALL_TRACEPOINTS = (
    *("sys_enter", "sys_exit", "sched_process_exec", "sched_prepare_exec", "sched_process_wait", "task_rename"),
    *("signal_generate", "signal_deliver"),
)

Fire = Callable[..., None]
# called with the CPU and the arguments
Probe = Callable[..., None]


def _nothing(_cpu: Cpu, *_args: int) -> None:
    # the static branch of a tracepoint without programs
    return


class RawTpLink(Link):
    """A program on a tracepoint (``struct bpf_raw_tp_link``)."""

    type: ClassVar[LinkType] = LinkType.RAW_TRACEPOINT

    def __init__(self, kernel: Any, prog: Prog, kind: AttachType, cookie: int, label: str = "") -> None:
        super().__init__(kernel, prog, kind, label)
        self.cookie = cookie
        self.tracepoint: Tracepoint | None = None
        self.tp_name = ""

    def fill_link_info(self) -> dict[str, object]:
        """Return the tracepoint's name and its length with the NUL."""
        return {"tp_name": self.tp_name, "tp_name_len": len(self.tp_name) + 1, "cookie": self.cookie}

    def release(self) -> None:
        """Take the program off the tracepoint."""
        if self.tracepoint is not None:
            self.tracepoint.remove(self)
            self.tracepoint = None


class Tracepoint:
    """One tracepoint: its programs in order, and what calls them."""

    def __init__(self, owner: "Tracepoints", name: str, proto: FuncProto) -> None:
        self._owner = owner
        self.name = name
        # the first argument is the probe's own
        self.num_args = len(proto.params) - 1
        self.context = replace(CONTEXTS.get(name, PROBE_CONTEXT), pinned=False)
        # programs and probes in the order in which they came
        self.probes: tuple[RawTpLink | Probe, ...] = ()
        self._args = Struct(f"<{max(self.num_args, 1)}Q")

    def add(self, link: RawTpLink) -> None:
        """Add a program behind the others (``bpf_probe_register``): EINVAL when it reads or writes too far."""
        prog = link.prog
        if prog.max_ctx_offset > 8 * self.num_args:
            problem = f"program '{prog.name}' reads {prog.max_ctx_offset} bytes of {self.num_args} arguments"
            raise KernelError(OP, Errno.EINVAL, problem)
        if prog.max_tp_access > WRITABLE.get(self.name, 0):
            raise KernelError(OP, Errno.EINVAL, f"tracepoint '{self.name}' has nothing to be written")
        self._set((*self.probes, link))
        link.tracepoint, link.tp_name = self, self.name
        note(self._owner.kernel, "attach", f"tracepoint attach: {self._about(link)}", self._details(link))

    def remove(self, link: RawTpLink) -> None:
        """Take a program off."""
        self._set(tuple(other for other in self.probes if other is not link))
        note(self._owner.kernel, "detach", f"tracepoint detach: {self._about(link)}", self._details(link))

    def add_probe(self, probe: Probe) -> None:
        """Call ``probe`` behind what is there already (tracepoint_probe_register)."""
        self._set((*self.probes, probe))

    def remove_probe(self, probe: Probe) -> None:
        """Call it no longer."""
        # methods are made anew whenever they are asked for
        self._set(tuple(other for other in self.probes if other != probe))

    def fire(self, cpu: Cpu, *objects: Any) -> None:
        """Run the programs on arguments (``bpf_trace_runN``)."""
        kernel, args = self._owner.kernel, tuple(map(word, objects))
        size = -(-self._args.size // 16) * 16
        ctx = push_frame(kernel.mem, cpu, size)
        kernel.mem.write(ctx, self._args.pack(*(value & M64 for value in args or (0,))))
        try:
            for probe in self.probes:
                if isinstance(probe, RawTpLink):
                    self._run(probe, ctx, cpu)
                else:
                    probe(cpu, *args)
        finally:
            pop_frame(kernel.mem, cpu, ctx, size)

    def _run(self, link: RawTpLink, ctx: int, cpu: Cpu) -> None:
        # __bpf_trace_run
        prog, kernel = link.prog, self._owner.kernel
        start_ns = cpu.now_ns
        charge_ps = kernel.costs.ps("raw_tp")
        cpu.charge(charge_ps)
        if prog.active.get(cpu.number):
            prog.stats.recursion_misses += 1
            return
        scratch = cpu.scratch
        prog.active[cpu.number] = 1
        saved, scratch[COOKIE] = scratch.get(COOKIE), link.cookie
        context = enter_context(scratch, self.context)
        try:
            ran = bpf_prog_run(kernel, prog, ctx, cpu, self._owner.execute)
        finally:
            scratch[COOKIE] = saved
            leave_context(scratch, context)
            prog.active[cpu.number] = 0
        link.stats.count("", ran.cost_ps + charge_ps, 0)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                start_ns, kernel.name, cpu.number, "tp_btf" if prog.type == ProgType.TRACING else "raw_tp", self.name,
                link.label, prog.id, prog.name, ran.retval, "", ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on

    def _set(self, probes: tuple[RawTpLink | Probe, ...]) -> None:
        self.probes = probes
        self._owner.__dict__[self.name] = self.fire if probes else _nothing
        self._owner.changed(self.name, bool(probes))

    def _about(self, link: RawTpLink) -> str:
        return f"program '{link.prog.name}' (id {link.prog.id}), {self.name}"

    def _details(self, link: RawTpLink) -> dict[str, int | str]:
        hook = "tp_btf" if link.prog.type == ProgType.TRACING else "raw_tp"
        return {"hook": hook, "target": self.name, "prog_id": link.prog.id, "link": link.label}


class Tracepoints:
    """The tracepoints of one kernel, as attributes by their names."""

    def __init__(self, kernel: Any, execute: Execute) -> None:
        self.kernel: TracingKernel = kernel
        self.execute = execute
        self.fired: set[str] = set()
        # whether anything is on any of them: those of packets are called only then
        self.watched = False
        self._known: dict[str, Tracepoint] = {}
        self._busy: set[str] = set()

    def changed(self, name: str, is_busy: bool) -> None:
        """Note whether something is on a tracepoint."""
        (self._busy.add if is_busy else self._busy.discard)(name)
        self.watched = bool(self._busy)

    def __getattr__(self, name: str) -> Fire:
        # only what is in no slot comes here; whoever calls it makes it one that is fired
        if name.startswith("__") or self._proto(name) is None:
            raise AttributeError(name)
        self.declare(name)
        return _nothing

    def fire(self, cpu: Cpu, name: str, *args: int) -> None:
        """Call a tracepoint by its name."""
        call: Fire = getattr(self, name)
        call(cpu, *args)

    def declare(self, *names: str) -> None:
        """Say that something calls these."""
        for name in names:
            self.fired.add(name)
            self.__dict__.setdefault(name, _nothing)

    def get(self, name: str) -> Tracepoint:
        """Return a tracepoint to attach to; ENOENT, NotModelled when the kernel has it and nothing here calls it."""
        found = self._known.get(name)
        if found is not None:
            return found
        proto = self._proto(name)
        if proto is None:
            raise KernelError(OP, Errno.ENOENT, f"no tracepoint '{name}'")
        if name not in self.fired:
            raise NotModelled(f"tracepoint {name}", "tracing/tracepoints.py")
        found = self._known[name] = Tracepoint(self, name, proto)
        return found

    def observed(self, *names: str) -> bool:
        """Whether something was ever put on one of these tracepoints."""
        return any(name in self._known for name in names)

    def _proto(self, name: str) -> FuncProto | None:
        btf = vmlinux()
        type_id = btf.find(PREFIX + name, Kind.TYPEDEF)
        ptr = btf.resolved(type_id) if type_id is not None else None
        proto = btf.resolved(ptr.type_id) if isinstance(ptr, Ptr) else None
        return proto if isinstance(proto, FuncProto) else None


def raw_tp_link_attach(kernel: Any, prog: Prog, name: str, cookie: int, label: str = "") -> RawTpLink:
    """Attach a program to a tracepoint; one that was loaded for a tracepoint by BTF goes there."""
    target = prog.attach_target
    kind = AttachType(0)
    if prog.type == ProgType.TRACING and target is not None:
        name, kind = target.name, AttachType.TRACE_RAW_TP
    tracepoint = kernel.tracepoints.get(name)
    link = RawTpLink(kernel, prog, kind, cookie, label)
    try:
        tracepoint.add(link)
    except KernelError:
        link.put()
        raise
    return link
