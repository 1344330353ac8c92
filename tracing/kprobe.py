"""kprobes on kernel functions: perf events, kprobe.multi, sessions (kernel/trace/{trace_kprobe,bpf_trace}.c, v6.18).

Probes see a call before the trampoline does and its return after it did. All of them are users of ftrace, the one that
came last is called first at the entry and last at the return. Each link of kprobe.multi is a user by itself; probes of
perf events are one user together, from the first that is opened anywhere to the last that is closed, and among them the
one that was opened last is called first. Programs are skipped and counted while another one of these kinds runs on the
CPU (``bpf_prog_active``); a perf probe inside a probe is missed without a trace in the program.

Left out: limits of what returns at once (maxactive), override_return.
Differs: registers that are no arguments are 0, and so is the return address that a return probe sees. Probes at an
offset are hit one after the other behind the entry, with the registers of that, whether or not an instruction begins
there.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from struct import Struct
from typing import Any, ClassVar

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.helpers.trampoline import COOKIE, ENTRY_IP
from ebpfsim.isa.alu import M64
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import ProgRun
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from hooks.frame import pop_frame, push_frame
from hooks.link import Link, note
from hooks.point import AttachPoint, Opts, Points
from hooks.run import bpf_prog_run
from hooks.trampoline import Function
from tracing.functions import KPROBE_BLACKLIST, NO_FTRACE_SITE, FunctionSite, Inside
from tracing.trace_pipe import PROBE_CONTEXT, enter_context, leave_context

__all__ = ["KprobeEvent", "KprobeLink", "KprobeMultiLink", "Kprobes", "points"]

OP = "link_create"
ACTIVE, RUNNING = "bpf_prog_active", "current_kprobe"
BPF_F_KPROBE_MULTI_RETURN = 1
PERF_EVENT_KPROBE, PERF_EVENT_KRETPROBE = 3, 4  # enum bpf_perf_event_type
MULTI = (AttachType.TRACE_KPROBE_MULTI, AttachType.TRACE_KPROBE_SESSION)
# struct pt_regs: r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss
PT_REGS = Struct("<21Q")
REGS_BYTES = 176  # with padding to 16
MULTI_CONTEXT = replace(PROBE_CONTEXT, pinned=False)
KERNEL_CS, KERNEL_SS, FLAGS = 0x10, 0x18, 0x246
INT3_BYTES, FENTRY_BYTES = 1, 5  # how far ip is behind the symbol: past the breakpoint, past the call
# bpf_get_func_ip() of kretprobes and entries is the symbol's


class KprobeEvent(KernelObject):
    """A perf event on a function (perf_event_open() of the PMU kprobe); ``missed`` counts what the probe layer lost."""

    fd_kind = FdKind.PERF_EVENT

    def __init__(self, kprobes: "Kprobes", site: FunctionSite, is_return: bool, offset: int = 0) -> None:
        super().__init__()
        self.offset = offset
        self.kprobes = kprobes
        self.site = site
        self.is_return = is_return
        self.missed = 0
        self.user: KprobeLink | None = None
        self.number = kprobes.arm()

    def on_release(self) -> None:
        """Disarm the probe."""
        self.kprobes.disarm()

    def attach_prog(self, prog: Prog, cookie: int) -> "KprobeLink":
        """Attach a program to this event."""
        return self.kprobes.attach(prog, self, cookie)


class KprobeLink(Link):
    """A program on a perf event (``struct bpf_perf_link``)."""

    type: ClassVar[LinkType] = LinkType.PERF_EVENT

    def __init__(self, kernel: Any, prog: Prog, event: KprobeEvent, cookie: int, label: str = "") -> None:
        super().__init__(kernel, prog, AttachType.PERF_EVENT, label)
        self.event: KprobeEvent = event
        self.cookie = cookie
        self.attached = False

    def fill_link_info(self) -> dict[str, object]:
        """Return the fields of ``perf_event.kprobe``."""
        event = self.event
        return {
            "perf_event_type": PERF_EVENT_KRETPROBE if event.is_return else PERF_EVENT_KPROBE,
            "func_name": event.site.name,
            "name_len": len(event.site.name) + 1,
            "offset": event.offset,
            "addr": event.site.address + event.offset,
            "missed": event.missed,
            "cookie": self.cookie,
        }

    def release(self) -> None:
        """Take the program off the event, and let go of that."""
        if self.attached:
            self.attached = False
            self.event.kprobes.remove(self)
            self.event.user = None
            self.event.put()


class KprobeMultiLink(Link):
    """A program on many functions (``struct bpf_kprobe_multi_link``); ``cookies`` are by the name of the function."""

    type: ClassVar[LinkType] = LinkType.KPROBE_MULTI

    def __init__(self, kernel: Any, prog: Prog, sites: Sequence[FunctionSite], flags: int, label: str = "") -> None:
        super().__init__(kernel, prog, prog.expected_attach_type, label)
        self.sites = tuple(sites)
        self.flags = flags
        self.cookies: dict[str, int] = {}
        self.missed = 0
        self.number = 0
        self.attached = False

    @property
    def is_session(self) -> bool:
        """Whether the program runs at entry and return."""
        return self.attach_type == AttachType.TRACE_KPROBE_SESSION

    @property
    def at_entry(self) -> bool:
        """Whether the program runs before the function."""
        return not self.flags & BPF_F_KPROBE_MULTI_RETURN

    @property
    def at_return(self) -> bool:
        """Whether the program runs behind the function."""
        return self.is_session or not self.at_entry

    def fill_link_info(self) -> dict[str, object]:
        """Return the fields of ``kprobe_multi``."""
        sites = sorted(self.sites, key=lambda site: site.address)
        return {
            "addrs": [site.address for site in sites],
            "count": len(sites),
            "flags": self.flags,
            "missed": self.missed,
            "cookies": [self.cookies.get(site.name, 0) for site in sites],
        }

    def release(self) -> None:
        """Take the program off all functions."""
        if self.attached:
            self.attached = False
            self.kernel.kprobes.remove_multi(self)  # type: ignore[attr-defined]


class _Chain:
    # what is on one function, each in the order in which it came
    def __init__(self) -> None:
        self.multis: list[KprobeMultiLink] = []
        self.entries: list[KprobeLink] = []
        self.returns: list[KprobeLink] = []
        # at an offset
        self.inside: list[KprobeLink] = []

    def __bool__(self) -> bool:
        return bool(self.multis or self.entries or self.returns)

    def links_of(self, event: KprobeEvent) -> list[KprobeLink]:
        """Return the list that the program of an event belongs to."""
        if event.is_return:
            return self.returns
        return self.inside if event.offset else self.entries


class Kprobes:
    """The probes of one kernel."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self._chains: dict[str, _Chain] = {}
        # users of ftrace and probes are numbered in the order in which they came
        self._numbers = count(1)
        self._armed = self._group = 0

    def arm(self) -> int:
        """Count a probe of a perf event in, and return its number."""
        number = next(self._numbers)
        self._armed += 1
        if self._armed == 1:
            self._group = number
        return number

    def disarm(self) -> None:
        """Count a probe of a perf event out."""
        self._armed -= 1

    def open(self, symbol: str, offset: int = 0, *, is_return: bool = False) -> KprobeEvent:
        """Return an event on a function, or inside of one: ENOENT, EINVAL, EILSEQ where probes must not be."""
        op = "perf_event_open"
        if vmlinux().find(symbol, Kind.FUNC) is None:
            raise KernelError(op, Errno.ENOENT, f"no symbol '{symbol}'")
        if symbol in NO_FTRACE_SITE or symbol in KPROBE_BLACKLIST:
            raise KernelError(op, Errno.EINVAL, f"{symbol}() must not be probed")
        if offset and is_return:
            raise KernelError(op, Errno.EINVAL, f"{symbol}+{offset:#x} is no entry that could be returned from")
        if 0 < offset < FENTRY_BYTES:
            raise KernelError(op, Errno.EILSEQ, f"{symbol}+{offset:#x} is inside of the call of ftrace")
        return KprobeEvent(self, self.kernel.functions.site(symbol, op), is_return, offset)

    def attach(self, prog: Prog, event: KprobeEvent, cookie: int = 0, label: str = "") -> KprobeLink:
        """Attach a program to an event: EINVAL, EEXIST."""
        if prog.type != ProgType.KPROBE or prog.expected_attach_type in MULTI:
            raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' is not for an event")
        if prog.sleepable:
            raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' may sleep")
        if event.user is not None:
            raise KernelError(OP, Errno.EEXIST, f"the event has program '{event.user.prog.name}'")
        link = KprobeLink(self.kernel, prog, event, cookie, label)
        event.get()
        event.user, link.attached = link, True
        chain = self._chain(event.site)
        links = chain.links_of(event)
        links.append(link)
        # inside of the function the one that came last is called first as well
        links.sort(key=lambda each: (each.event.offset, (-1 if event.offset else 1) * each.event.number))
        self._changed(event.site, chain)
        self._note("attach", link, event.site.name)
        return link

    def attach_multi(
        self, prog: Prog, symbols: Sequence[str], cookies: Sequence[int] = (), flags: int = 0, label: str = ""
    ) -> KprobeMultiLink:
        """Attach a program to functions (``bpf_kprobe_multi_link_attach``): EINVAL, ESRCH."""
        if prog.type != ProgType.KPROBE or prog.expected_attach_type not in MULTI:
            raise KernelError(OP, Errno.EINVAL, f"program '{prog.name}' was not loaded for kprobe.multi")
        if flags & ~BPF_F_KPROBE_MULTI_RETURN or not symbols:
            raise KernelError(OP, Errno.EINVAL, f"flags {flags:#x}, {len(symbols)} functions")
        if cookies and len(cookies) != len(symbols):
            raise KernelError(OP, Errno.EINVAL, f"{len(cookies)} cookies for {len(symbols)} functions")
        for symbol in symbols:
            missing = vmlinux().find(symbol, Kind.FUNC) is None or symbol in NO_FTRACE_SITE
            if missing or symbols.count(symbol) > 1:
                raise KernelError(OP, Errno.ESRCH, f"function '{symbol}'")
        sites = [self.kernel.functions.site(symbol) for symbol in symbols]
        link = KprobeMultiLink(self.kernel, prog, sites, flags, label)
        link.cookies = dict(zip(symbols, cookies, strict=False))
        link.attached, link.number = True, next(self._numbers)
        for site in sites:
            chain = self._chain(site)
            chain.multis.append(link)
            self._changed(site, chain)
        self._note("attach", link, " ".join(symbols))
        return link

    def remove(self, link: KprobeLink) -> None:
        """Take a link of an event off its function."""
        site = link.event.site
        chain = self._chains[site.name]
        chain.links_of(link.event).remove(link)
        self._changed(site, chain)
        self._note("detach", link, site.name)

    def remove_multi(self, link: KprobeMultiLink) -> None:
        """Take a link off all of its functions."""
        for site in link.sites:
            chain = self._chains[site.name]
            chain.multis.remove(link)
            self._changed(site, chain)
        self._note("detach", link, " ".join(site.name for site in link.sites))

    def _chain(self, site: FunctionSite) -> _Chain:
        return self._chains.setdefault(site.name, _Chain())

    def _changed(self, site: FunctionSite, chain: _Chain) -> None:
        site.surround(self._around(site, chain) if chain else None)
        site.look_inside(self._inside(site, tuple(chain.inside)) if chain.inside else None)

    def _note(self, kind: str, link: Link, target: str) -> None:
        hook = _hook_of(link)
        text = f"{hook} {kind}: program '{link.prog.name}' (id {link.prog.id}), {target}"
        details: dict[str, int | str] = {"hook": hook, "target": target, "prog_id": link.prog.id, "link": link.label}
        note(self.kernel, kind, text, details)

    # ---- calls -------------------------------------------------------------------------------------------------------

    def _around(self, site: FunctionSite, chain: _Chain) -> Callable[[Function], Function]:
        # a call that is under way goes on with the probes that it began with
        early = tuple(multi for multi in chain.multis if multi.number < self._group)
        late = tuple(multi for multi in chain.multis if multi.number > self._group)
        entries, returns = tuple(chain.entries), tuple(chain.returns)
        masks, model = site.model.masks(), site.model

        def around(call: Function) -> Function:
            def probed(cpu: Cpu, *args: int) -> int:
                words = [value & mask for value, mask in zip(args, masks, strict=True)]
                skipped: set[KprobeMultiLink] = set()
                self._enter(late, site, cpu, words, skipped)
                for link in reversed(entries):
                    self._perf(link, cpu, words, None)
                self._enter(early, site, cpu, words, skipped)
                result = call(cpu, *args)
                word = model.ret_word(result)
                self._leave(early, site, cpu, (words, word), skipped)
                for link in returns:
                    self._perf(link, cpu, words, word)
                self._leave(late, site, cpu, (words, word), skipped)
                return result

            return probed

        return around

    def _inside(self, site: FunctionSite, links: tuple[KprobeLink, ...]) -> Inside:
        masks = site.model.masks()

        def hit(cpu: Cpu, args: Sequence[int]) -> None:
            words = [value & mask for value, mask in zip(args, masks, strict=True)]
            for link in links:
                self._perf(link, cpu, words, None)

        return hit

    def _enter(
        self,
        multis: tuple[KprobeMultiLink, ...],
        site: FunctionSite,
        cpu: Cpu,
        words: Sequence[int],
        skipped: set[KprobeMultiLink],
    ) -> None:
        # a session whose program returns something at the entry has no return
        for multi in reversed(multis):
            if multi.at_entry and self._multi(multi, site, cpu, words, None) and multi.is_session:
                skipped.add(multi)

    def _leave(
        self,
        multis: tuple[KprobeMultiLink, ...],
        site: FunctionSite,
        cpu: Cpu,
        regs: tuple[Sequence[int], int],
        skipped: set[KprobeMultiLink],
    ) -> None:
        for multi in multis:
            if multi.at_return and multi not in skipped:
                self._multi(multi, site, cpu, *regs)

    def _perf(self, link: KprobeLink, cpu: Cpu, words: Sequence[int], result: int | None) -> None:
        # kprobe_ftrace_handler or the rethook: one probe at a time on a CPU
        scratch, event = cpu.scratch, link.event
        if scratch.get(RUNNING):
            event.missed += 1
            return
        scratch[RUNNING] = 1
        try:
            behind = event.offset + INT3_BYTES if result is None else 0
            self._run(link, event.site, cpu, (words, result, behind), link.cookie)
        finally:
            scratch[RUNNING] = 0

    def _multi(
        self, link: KprobeMultiLink, site: FunctionSite, cpu: Cpu, words: Sequence[int], result: int | None
    ) -> int:
        behind = FENTRY_BYTES if result is None else 0
        return self._run(link, site, cpu, (words, result, behind), link.cookies.get(site.name, 0))

    def _run(
        self, link: Link, site: FunctionSite, cpu: Cpu, regs: tuple[Sequence[int], int | None, int], cookie: int
    ) -> int:
        # trace_call_bpf and kprobe_multi_link_prog_run
        kernel, prog, scratch = self.kernel, link.prog, cpu.scratch
        hook, start_ns = _hook_of(link), cpu.now_ns
        charge_ps = kernel.costs.ps("kretprobe" + hook[6:] if regs[1] is not None and hook[:6] == "kprobe" else hook)
        cpu.charge(charge_ps)
        if scratch.get(ACTIVE):
            prog.stats.recursion_misses += 1
            return 0
        saved = {name: scratch.get(name) for name in (COOKIE, ENTRY_IP)}
        at_entry = not isinstance(link, KprobeLink) or not link.event.offset
        scratch.update({ACTIVE: 1, COOKIE: cookie, ENTRY_IP: site.address if at_entry else 0})
        before = enter_context(scratch, PROBE_CONTEXT if isinstance(link, KprobeLink) else MULTI_CONTEXT)
        size = _frame_bytes(regs[0])
        frame = push_frame(kernel.mem, cpu, size)
        try:
            ctx = self._pt_regs(frame, site, *regs)
            ran = bpf_prog_run(kernel, prog, ctx, cpu, kernel.execute)
        finally:
            pop_frame(kernel.mem, cpu, frame, size)
            scratch.update(saved)
            scratch[ACTIVE] = 0
            leave_context(scratch, before)
        link.stats.count("", ran.cost_ps + charge_ps, 0)
        # fmt: off
        kernel.recorder.runs.append(
            ProgRun(
                start_ns, kernel.name, cpu.number, hook, site.name, link.label, prog.id, prog.name,
                ran.retval, "", ran.insns, ran.cost_ps, ran.tail_calls,
            )
        )
        # fmt: on
        retval: int = ran.retval
        return retval

    def _pt_regs(self, frame: int, site: FunctionSite, words: Sequence[int], result: int | None, behind: int) -> int:
        # on the stack: the registers, and where sp points the return address and the arguments behind the sixth
        on_stack, sp = words[6:], frame + REGS_BYTES
        di, si, dx, cx, r8, r9 = [*words, *[0] * 6][:6]
        ax, orig_ax = (M64, 0) if result is None else (result, M64)
        ip = site.address + behind if result is None else 0
        values = (0, 0, 0, 0, 0, 0, 0, 0, r9, r8, ax, cx, dx, si, di, orig_ax, ip, KERNEL_CS, FLAGS, sp, KERNEL_SS)
        memory = self.kernel.mem
        memory.write(frame, PT_REGS.pack(*values))
        memory.write(sp, Struct(f"<{1 + len(on_stack)}Q").pack(0, *on_stack))
        return frame


def _frame_bytes(words: Sequence[int]) -> int:
    # registers, the return address, and the arguments behind the sixth
    return REGS_BYTES + -(-8 * (1 + len(words[6:])) // 16) * 16


def _hook_of(link: Link) -> str:
    if isinstance(link, KprobeLink):
        return "kretprobe" if link.event.is_return else "kprobe"
    assert isinstance(link, KprobeMultiLink)
    return "kprobe.multi" if link.at_entry else "kretprobe.multi"


def points(kernel: Any) -> Points:
    """Return the rows of perf events and of kprobe.multi; further fields: ``bpf_cookie``, ``syms``, ``cookies``,
    ``kprobe_multi_flags``."""

    def event(prog: Prog, target: int, flags: int, opts: Opts) -> Link:
        if flags:
            raise KernelError(OP, Errno.EINVAL, f"flags {flags:#x}")
        file = kernel.fds.file(target)
        if file is None:
            raise KernelError(OP, Errno.EBADF, f"fd {target} is not open")
        attach_prog: Callable[[Prog, int], Link] | None = getattr(file.obj, "attach_prog", None)
        if attach_prog is None:
            raise KernelError(OP, Errno.EBADF, f"fd {target} is no perf event")
        return attach_prog(prog, opts.get("bpf_cookie", 0))

    def multi(prog: Prog, _target: int, link_flags: int, opts: Opts) -> KprobeMultiLink:
        if link_flags:
            raise KernelError(OP, Errno.EINVAL, f"flags {link_flags:#x}")
        if opts.get("addrs"):
            raise NotModelled("kprobe.multi by addresses", "kernel/trace/bpf_trace.c")
        kprobes: Kprobes = kernel.kprobes
        flags = opts.get("kprobe_multi_flags", 0)
        return kprobes.attach_multi(prog, opts.get("syms", ()), opts.get("cookies", ()), flags)

    rows = dict.fromkeys(MULTI, AttachPoint(link_create=multi))
    return {AttachType.PERF_EVENT: AttachPoint(link_create=event)} | rows
