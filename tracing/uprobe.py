"""Probes on functions of user space: perf events, uprobe.multi, sessions (kernel/events/uprobes.c, trace_uprobe.c and
bpf_trace.c, v6.18).

Tasks call functions of binaries (``tracing.user_binary``) in steps of their own; a probed one traps into the kernel at
its first instruction, and with a return probe again when it returns. At both the programs that came last run first.

Left out: reference counters of static tracepoints, registers that calls clobber. Differs: probes inside of a function
are hit one after the other behind its entry, with the registers of that, whether or not an instruction begins there.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Any, ClassVar

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.helpers.trampoline import COOKIE, ENTRY_IP
from ebpfsim.isa.alu import M64, s64
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.frame import pop_frame, push_frame
from hooks.link import Link, note
from hooks.point import AttachPoint, Opts, Points
from hooks.run import bpf_prog_run
from tracing.kprobe import OP, PT_REGS, REGS_BYTES
from tracing.task import Task
from tracing.trace_pipe import PROBE_CONTEXT, enter_context, leave_context
from tracing.user_binary import (
    ARGUMENT_REGISTERS,
    CONST,
    REG,
    REGISTER_OFFSETS,
    SIB,
    UsdtNote,
    UserBinary,
    UserFunction,
    parse_usdt_arg,
)

__all__ = ["UprobeEvent", "UprobeLink", "UprobeMultiLink", "Uprobes", "points"]

MULTI = (AttachType.TRACE_UPROBE_MULTI, AttachType.TRACE_UPROBE_SESSION)
BPF_F_UPROBE_MULTI_RETURN = 1
MAX_UPROBE_MULTI_CNT = 1 << 20
PERF_EVENT_UPROBE, PERF_EVENT_URETPROBE = 1, 2  # enum bpf_perf_event_type
USER_CS, USER_DS, USER_FLAGS = 0x33, 0x2B, 0x246
CALLER = 0x5555_5555_4800  # the code of the task that calls, at no function
_REGISTERS = {name: off // 8 for name, off in REGISTER_OFFSETS.items()}
# registers at a probe, and the user memory that was taken for them
_UserRegs = tuple[list[int], list[int]]
_AX, _IP, _CS, _EFLAGS, _SP, _SS = 10, 16, 17, 18, 19, 20


class UprobeEvent(KernelObject):
    """A perf event on a place in a file (perf_event_open() of the PMU uprobe)."""

    fd_kind = FdKind.PERF_EVENT

    def __init__(self, owner: "Uprobes", binary: UserBinary, offset: int, is_return: bool, pid: int) -> None:
        super().__init__()
        self.owner, self.binary, self.offset, self.is_return, self.pid = owner, binary, offset, is_return, pid
        self.user: UprobeLink | None = None

    def attach_prog(self, prog: Prog, cookie: int) -> "UprobeLink":
        """Attach a program to this event."""
        return self.owner.attach(prog, self, cookie)


class UprobeLink(Link):
    """A program on a perf event (``struct bpf_perf_link``)."""

    type: ClassVar[LinkType] = LinkType.PERF_EVENT

    def __init__(self, kernel: Any, prog: Prog, event: UprobeEvent, cookie: int, label: str = "") -> None:
        super().__init__(kernel, prog, AttachType.PERF_EVENT, label)
        self.event, self.cookie = event, cookie
        self.attached = False

    @property
    def hook(self) -> str:
        """What records call it."""
        return "uretprobe" if self.event.is_return else "uprobe"

    def fill_link_info(self) -> dict[str, object]:
        """Return the fields of ``perf_event.uprobe``."""
        event = self.event
        return {
            "perf_event_type": PERF_EVENT_URETPROBE if event.is_return else PERF_EVENT_UPROBE,
            "file_name": event.binary.path,
            "name_len": len(event.binary.path) + 1,
            "offset": event.offset,
            "cookie": self.cookie,
            "ref_ctr_offset": 0,
        }

    def release(self) -> None:
        """Take the program off the event, and let go of that."""
        if self.attached:
            self.attached = False
            self.event.owner.remove(self)
            self.event.user = None
            self.event.put()


class UprobeMultiLink(Link):
    """A program on places of one file (``struct bpf_uprobe_multi_link``); ``cookies`` are by offset."""

    type: ClassVar[LinkType] = LinkType.UPROBE_MULTI

    def __init__(
        self, kernel: Any, prog: Prog, binary: UserBinary, cookies: dict[int, int], flags: int, pid: int, label: str
    ) -> None:
        super().__init__(kernel, prog, prog.expected_attach_type, label)
        self.binary, self.cookies, self.flags, self.pid = binary, cookies, flags, pid
        self.attached = False

    @property
    def is_session(self) -> bool:
        """Whether the program runs at entry and return."""
        return self.attach_type == AttachType.TRACE_UPROBE_SESSION

    @property
    def hook(self) -> str:
        """What records call it."""
        if self.is_session:
            return "uprobe.session"
        return "uretprobe.multi" if self.flags & BPF_F_UPROBE_MULTI_RETURN else "uprobe.multi"

    def fill_link_info(self) -> dict[str, object]:
        """Return the fields of ``uprobe_multi``."""
        return {
            "path": self.binary.path,
            "path_size": len(self.binary.path) + 1,
            "offsets": list(self.cookies),
            "cookies": list(self.cookies.values()),
            "ref_ctr_offsets": [0] * len(self.cookies),
            "count": len(self.cookies),
            "flags": self.flags,
            "pid": self.pid,
        }

    def release(self) -> None:
        """Take the program off all places."""
        if self.attached:
            self.attached = False
            self.kernel.uprobes.remove_multi(self)  # type: ignore[attr-defined]


class _Consumer:
    # struct uprobe_consumer: a link at one place
    def __init__(self, link: UprobeLink | UprobeMultiLink, offset: int, cookie: int) -> None:
        self.link, self.offset, self.cookie = link, offset, cookie
        if isinstance(link, UprobeMultiLink):
            self.is_session, self.pid = link.is_session, link.pid
            is_return = bool(link.flags & BPF_F_UPROBE_MULTI_RETURN)
        else:
            self.is_session, self.pid = False, link.event.pid
            is_return = link.event.is_return
        self.at_entry, self.at_return = not is_return, is_return or self.is_session


class Uprobes:
    """The binaries of one kernel's files, and the probes on them."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.binaries: dict[str, UserBinary] = {}
        # struct uprobe: by path and offset, the last one first
        self._consumers: dict[tuple[str, int], list[_Consumer]] = {}
        self._specs: dict[int, int] = {}

    def add(self, binary: UserBinary) -> UserBinary:
        """Let there be a binary."""
        self.binaries[binary.path] = binary
        return binary

    def next_spec(self, map_fd: int) -> int:
        """Return the next number of a static tracepoint's description in a map of those."""
        number = self._specs.get(map_fd, 0)
        self._specs[map_fd] = number + 1
        return number

    def binary(self, path: str, op: str = "attach") -> UserBinary:
        """Return the binary at a path; KernelError ENOENT."""
        found = self.binaries.get(path)
        if found is None:
            raise KernelError(op, Errno.ENOENT, f"no binary '{path}'")
        return found

    def open(self, path: str, offset: int, *, is_return: bool = False, pid: int = -1) -> UprobeEvent:
        """Return an event on a place in a file: ENOENT, EINVAL behind its end, ESRCH."""
        op = "perf_event_open"
        binary = self.binary(path, op)
        if not 0 <= offset <= binary.size:
            raise KernelError(op, Errno.EINVAL, f"offset {offset:#x} lies behind the {binary.size} bytes of '{path}'")
        if pid != -1 and pid not in self.kernel.sched.tasks:
            raise KernelError(op, Errno.ESRCH, f"no task {pid}")
        return UprobeEvent(self, binary, offset, is_return, pid)

    def attach(self, prog: Prog, event: UprobeEvent, cookie: int = 0, label: str = "") -> UprobeLink:
        """Attach a program to an event: EINVAL, EEXIST. It may sleep."""
        if prog.type != ProgType.KPROBE or prog.expected_attach_type:
            raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' is not for an event")
        if event.user is not None:
            raise KernelError(OP, Errno.EEXIST, f"the event has program '{event.user.prog.name}'")
        link = UprobeLink(self.kernel, prog, event, cookie, label)
        event.get()
        event.user, link.attached = link, True
        self._chain(event.binary.path, event.offset).insert(0, _Consumer(link, event.offset, cookie))
        self._note("attach", link, f"{event.binary.path}:{event.offset:#x}")
        return link

    def attach_multi(
        self,
        prog: Prog,
        path: str,
        offsets: Sequence[int],
        cookies: Sequence[int] = (),
        flags: int = 0,
        pid: int = 0,
        label: str = "",
    ) -> UprobeMultiLink:
        """Attach a program to places of a file (bpf_uprobe_multi_link_attach): EINVAL, E2BIG, ENOENT, ESRCH."""
        if prog.type != ProgType.KPROBE or prog.expected_attach_type not in MULTI:
            raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' was not loaded for uprobe.multi")
        is_session = prog.expected_attach_type == AttachType.TRACE_UPROBE_SESSION
        if flags & ~BPF_F_UPROBE_MULTI_RETURN or not offsets or (flags and is_session) or pid < 0:
            raise KernelError(OP, Errno.EINVAL, f"flags {flags:#x}, {len(offsets)} places, pid {pid}")
        if cookies and len(cookies) != len(offsets):
            raise KernelError(OP, Errno.EINVAL, f"{len(cookies)} cookies for {len(offsets)} places")
        if len(offsets) > MAX_UPROBE_MULTI_CNT:
            raise KernelError(OP, Errno.E2BIG, f"{len(offsets)} places")
        binary = self.binary(path, OP)
        if pid and pid not in self.kernel.sched.tasks:
            raise KernelError(OP, Errno.ESRCH, f"no task {pid}")
        for offset in offsets:
            if not 0 <= offset <= binary.size:
                raise KernelError(OP, Errno.EINVAL, f"offset {offset:#x} lies behind the end of '{path}'")
        by_offset = dict(zip(offsets, cookies or [0] * len(offsets), strict=True))
        link = UprobeMultiLink(self.kernel, prog, binary, by_offset, flags, pid, label)
        link.attached = True
        for offset, cookie in by_offset.items():
            self._chain(path, offset).insert(0, _Consumer(link, offset, cookie))
        self._note("attach", link, path)
        return link

    def remove(self, link: UprobeLink) -> None:
        """Take a link of an event off its place."""
        event = link.event
        self._drop(link, event.binary.path, event.offset)
        self._note("detach", link, f"{event.binary.path}:{event.offset:#x}")

    def remove_multi(self, link: UprobeMultiLink) -> None:
        """Take a link off all of its places."""
        for offset in link.cookies:
            self._drop(link, link.binary.path, offset)
        self._note("detach", link, link.binary.path)

    def _chain(self, path: str, offset: int) -> list[_Consumer]:
        return self._consumers.setdefault((path, offset), [])

    def _drop(self, link: Link, path: str, offset: int) -> None:
        chain = self._chain(path, offset)
        chain[:] = [each for each in chain if each.link is not link]

    def _note(self, kind: str, link: UprobeLink | UprobeMultiLink, target: str) -> None:
        text = f"{link.hook} {kind}: program '{link.prog.name}' (id {link.prog.id}), {target}"
        details: dict[str, int | str] = {
            "hook": link.hook, "target": target, "prog_id": link.prog.id, "link": link.label,
        }  # fmt: skip
        note(self.kernel, kind, text, details)

    # ---- what tasks do -----------------------------------------------------------------------------------------------

    def call(self, task: Task, path: str, name: str, args: Sequence[int], returns: int = 0, takes_ns: int = 0) -> int:
        """Let the running task call a function of a binary, which needs some time and returns a number."""
        binary = self._existing(path)
        function = binary.functions.get(name)
        if function is None:
            raise InputError("", f"'{path}' has no function '{name}'", f"one of {', '.join(binary.functions)}")
        regs, areas = self._call_regs(task, binary.base + function.offset, args)
        chain = self._hit(task, binary, function.offset)
        later = [each for each in chain if each.at_return and not each.at_entry]
        for each in chain:
            if each.at_entry:
                refused = self._run(each, task, binary, regs)
                if each.is_session and not refused:
                    later.append(each)
        self._inside(task, binary, function, regs)
        if takes_ns:
            self.kernel.sched.compute(takes_ns)
        if later:
            # the return address was replaced: another trap
            self.kernel.sched.cpu_of(task).charge(self.kernel.costs.ps("uretprobe"))
            regs[_AX], regs[_IP], regs[_SP] = returns & M64, CALLER, regs[_SP] + 8 & M64
            for each in [each for each in chain if each in later]:
                self._run(each, task, binary, regs)
        _give_back(task, areas)
        return s64(returns & M64)

    def _inside(self, task: Task, binary: UserBinary, function: UserFunction, regs: list[int]) -> None:
        # probes at offsets in the function, which the task comes by
        first, last = function.offset + 1, function.offset + function.size
        places = sorted(place for path, place in self._consumers if path == binary.path and first <= place < last)
        entry = regs[_IP]
        for place in places:
            regs[_IP] = binary.base + place
            for each in self._hit(task, binary, place):
                if each.at_entry:
                    self._run(each, task, binary, regs)
        regs[_IP] = entry

    def usdt(self, task: Task, path: str, provider: str, name: str, args: Sequence[int]) -> int:
        """Let the running task come by a static tracepoint with arguments; how many places it has."""
        binary = self._existing(path)
        notes = binary.notes_of(provider, name)
        if not notes:
            known = ", ".join(f"{each.provider}:{each.name}" for each in binary.notes)
            raise InputError("", f"'{path}' has no tracepoint '{provider}:{name}'", f"there is {known or 'none'}")
        regs, areas = self._usdt_regs(task, binary, notes[0], args)
        for each in self._hit(task, binary, notes[0].offset):
            if each.at_entry:
                self._run(each, task, binary, regs)
        _give_back(task, areas)
        return len(notes)

    def _existing(self, path: str) -> UserBinary:
        found = self.binaries.get(path)
        if found is None:
            raise InputError("", f"there is no binary '{path}'", f"one of {', '.join(self.binaries) or 'none'}")
        return found

    def _hit(self, task: Task, binary: UserBinary, offset: int) -> list[_Consumer]:
        # handle_swbp(): who is told, and the trap for them
        chain = [each for each in self._chain(binary.path, offset) if each.pid in (-1, 0, task.leader.pid)]
        if chain:
            self.kernel.sched.cpu_of(task).charge(self.kernel.costs.ps("uprobe"))
        return chain

    def _call_regs(self, task: Task, ip: int, args: Sequence[int]) -> _UserRegs:
        # the first six in registers, the others behind the return address
        regs, areas = _user_regs(task, ip, args[len(ARGUMENT_REGISTERS) :])
        for register, value in zip(ARGUMENT_REGISTERS, args, strict=False):
            regs[_REGISTERS[register]] = value & M64
        return regs, areas

    def _usdt_regs(self, task: Task, binary: UserBinary, place: UsdtNote, args: Sequence[int]) -> _UserRegs:
        regs, areas = _user_regs(task, binary.base + place.offset, ())
        if len(args) > len(place.args):
            raise InputError("", f"{place.provider}:{place.name} has {len(place.args)} arguments, have {len(args)}")
        user = task.user
        for text, value in zip(place.args, args, strict=False):
            arg = parse_usdt_arg(text)
            if arg.arg_type == REG:
                regs[arg.reg_off // 8] = value & M64
            elif arg.arg_type != CONST and user is not None:
                register = arg.reg_off // 8
                if not regs[register]:
                    areas.append(user.alloc(1 << 12))
                    regs[register] = areas[-1] + (1 << 11)
                size, place_at = abs(arg.size), regs[register] + arg.val_off
                if arg.arg_type == SIB:
                    place_at += regs[arg.idx_reg_off // 8] << arg.scale_bitshift
                user.write(place_at & M64, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))
        return regs, areas

    def _run(self, each: _Consumer, task: Task, binary: UserBinary, regs: Sequence[int]) -> int:
        # bpf_prog_run_array_uprobe(), uprobe_prog_run()
        kernel, link, prog = self.kernel, each.link, each.link.prog
        cpu: Cpu = kernel.sched.cpu_of(task)
        scratch, start_ns = cpu.scratch, cpu.now_ns
        saved = {name: scratch.get(name) for name in (COOKIE, ENTRY_IP)}
        scratch.update({COOKIE: each.cookie, ENTRY_IP: binary.base + each.offset})
        before = enter_context(scratch, PROBE_CONTEXT)
        frame = push_frame(kernel.mem, cpu, REGS_BYTES)
        try:
            kernel.mem.write(frame, PT_REGS.pack(*regs))
            ran = bpf_prog_run(kernel, prog, frame, cpu, kernel.execute)
        finally:
            pop_frame(kernel.mem, cpu, frame, REGS_BYTES)
            leave_context(scratch, before)
            scratch.update(saved)
        link.stats.count("", ran.cost_ps, 0)
        where = binary.function_at(each.offset) or UserFunction(f"{each.offset:#x}", each.offset)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                start_ns, kernel.name, cpu.number, link.hook, f"{binary.path}:{where.name}", link.label, prog.id,
                prog.name, ran.retval, "", ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on
        return int(ran.retval)


def _user_regs(task: Task, ip: int, on_stack: Sequence[int]) -> _UserRegs:
    user = task.user
    assert user is not None
    words = Struct(f"<{1 + len(on_stack)}Q").pack(CALLER, *(value & M64 for value in on_stack))
    areas = [user.alloc(len(words), words)]
    regs = [0] * 21
    regs[_IP], regs[_CS], regs[_EFLAGS], regs[_SP], regs[_SS] = ip, USER_CS, USER_FLAGS, areas[0], USER_DS
    return regs, areas


def _give_back(task: Task, areas: Sequence[int]) -> None:
    if task.user is not None:
        for area in areas:
            task.user.forget(area)


def points(kernel: Any) -> Points:
    """Return the rows of uprobe.multi; further fields: ``path``, ``offsets``, ``cookies``, ``uprobe_multi_flags``,
    ``pid``."""

    def multi(prog: Prog, _target: int, _flags: int, opts: Opts) -> UprobeMultiLink:
        uprobes: Uprobes = kernel.uprobes
        path = opts.get("path", b"")
        text = path.rstrip(b"\0").decode() if isinstance(path, bytes) else str(path)
        flags, pid = opts.get("uprobe_multi_flags", 0), opts.get("pid", 0)
        return uprobes.attach_multi(prog, text, opts.get("offsets", ()), opts.get("cookies", ()), flags, pid)

    return dict.fromkeys(MULTI, AttachPoint(link_create=multi))
