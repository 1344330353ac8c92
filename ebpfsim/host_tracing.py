"""Attaching programs to functions and tracepoints of a host's kernel, and to other programs, in the words of libbpf."""

import struct
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, cast

from ebpfsim.attached import AttachedLink
from ebpfsim.attached_iter import AttachedIter
from ebpfsim.btf.types import Func
from ebpfsim.call import Arguments, call_function
from ebpfsim.clock import parse_duration
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.host_uprobes import HostUprobes
from ebpfsim.progs.prog import Prog
from ebpfsim.suggest import did_you_mean
from ebpfsim.uapi.bpf import AttachType, ProgType
from hooks.link import Link
from hooks.tracing import bpf_tracing_prog_attach
from tracing.kprobe import BPF_F_KPROBE_MULTI_RETURN
from tracing.pidfd import PathFd, PidFd
from tracing.trace_events import event_id
from tracing.tracepoints import raw_tp_link_attach

if TYPE_CHECKING:
    from ebpfsim.host_net import HostNet
    from ebpfsim.kernel import Kernel
    from ebpfsim.loader import Object, ObjectMap, Program
    from ebpfsim.tasks import HostTask

__all__ = ["HostTracing"]

KINDS = {
    AttachType.TRACE_FENTRY: "fentry",
    AttachType.TRACE_FEXIT: "fexit",
    AttachType.MODIFY_RETURN: "fmod_ret",
    AttachType.LSM_MAC: "lsm",
}


# sections of programs on functions and static tracepoints of user space
USER_SECTIONS = (
    "uprobe", "uretprobe", "uprobe.multi", "uretprobe.multi", "uprobe.session", "usdt",
)  # fmt: skip


class HostTracing(HostUprobes):
    """The tracing side of ``Host``."""

    name: str
    kernel: "Kernel"

    def prog(self, program: "Program | Prog | int") -> Prog:
        """Return the loaded program behind an object's program or a descriptor; KernelError EBADF."""
        raise NotImplementedError

    def call(self, function: str, args: Arguments = (), *, cpu: int = 0) -> int:
        """Call a function of the kernel by its name, with numbers and texts; what is attached to it runs.

        Arguments are in order or by name; those that are left out are 0, texts are passed by their addresses.
        """
        return call_function(self.kernel, function, args, self.kernel.cpus[cpu])

    def pidfd(self, task: "HostTask") -> int:
        """Return a descriptor of a task, for ``bpf``: the key of values that belong to tasks."""
        return self.kernel.fds.install(PidFd(task.task))

    def cgroup_fd(self, path: str) -> int:
        """Return a descriptor of a control group, which is made when it is not there."""
        group = self.kernel.cgroups.mkdir(path)
        group.get()
        return self.kernel.fds.install(group)

    def path_fd(self, path: str) -> int:
        """Return a descriptor of a file (O_PATH): the key of values that belong to inodes."""
        try:
            dentry = self.kernel.vfs.lookup(path)
        except KeyError:
            raise KernelError("open", Errno.ENOENT, f"no file '{path}'") from None
        return self.kernel.fds.install(PathFd(self.kernel.vfs, dentry))

    def attach_fentry(self, program: "Program | Prog | int", *, cookie: int = 0, label: str = "") -> AttachedLink:
        """Attach a program to the beginning of the function that it was loaded for."""
        return self._trampoline(program, AttachType.TRACE_FENTRY, cookie, label)

    def attach_fexit(self, program: "Program | Prog | int", *, cookie: int = 0, label: str = "") -> AttachedLink:
        """Attach a program to the end of the function that it was loaded for."""
        return self._trampoline(program, AttachType.TRACE_FEXIT, cookie, label)

    def attach_fmod_ret(self, program: "Program | Prog | int", *, cookie: int = 0, label: str = "") -> AttachedLink:
        """Attach a program that may replace what the function that it was loaded for returns."""
        return self._trampoline(program, AttachType.MODIFY_RETURN, cookie, label)

    def attach_lsm(self, program: "Program | Prog | int", *, cookie: int = 0, label: str = "") -> AttachedLink:
        """Attach a program to the security hook that it was loaded for."""
        return self._trampoline(program, AttachType.LSM_MAC, cookie, label)

    def attach_freplace(
        self,
        program: "Program | Prog | int",
        target: "Program | Prog | int | None" = None,
        function: str = "",
        *,
        label: str = "",
    ) -> AttachedLink:
        """Put a program in the place of a function: the one that it was loaded for, or one of another program."""
        prog, opts, target_fd = self.prog(program), {}, 0
        if target is not None:
            into = self.prog(target)
            opts = {"target_btf_id": self._function_of(into, function)}
            into.get()
            target_fd = self.kernel.fds.install(into)
        try:
            kind = AttachType(0)
            link = bpf_tracing_prog_attach(self.kernel, prog, opts, kind=kind, target_fd=target_fd, label=label)
        finally:
            if target_fd:
                self.kernel.fds.close(target_fd)
        return self._attached(link)

    def attach_raw_tp(
        self, program: "Program | Prog | int", tracepoint: str = "", *, cookie: int = 0, label: str = ""
    ) -> AttachedLink:
        """Attach a program to a tracepoint by its name, or (tp_btf) to the one that it was loaded for."""
        return self._attached(raw_tp_link_attach(self.kernel, self.prog(program), tracepoint, cookie, label))

    def attach_kprobe(
        self, program: "Program | Prog | int", function: str, *, cookie: int = 0, label: str = ""
    ) -> AttachedLink:
        """Attach a program to the beginning of a function, or to FUNCTION+OFFSET, by a perf event of its own."""
        return self._kprobe(program, function, False, cookie, label)

    def attach_kretprobe(
        self, program: "Program | Prog | int", function: str, *, cookie: int = 0, label: str = ""
    ) -> AttachedLink:
        """Attach a program to the return of a function by a perf event of its own."""
        return self._kprobe(program, function, True, cookie, label)

    def attach_kprobe_multi(
        self,
        program: "Program | Prog | int",
        functions: "str | Sequence[str]",
        *,
        cookies: Sequence[int] = (),
        retprobe: bool = False,
        label: str = "",
    ) -> AttachedLink:
        """Attach a program to functions, or to all that a pattern such as ``bpf_fentry_test*`` names."""
        names = self._matching(functions) if isinstance(functions, str) else list(functions)
        flags = BPF_F_KPROBE_MULTI_RETURN if retprobe else 0
        return self._attached(self.kernel.kprobes.attach_multi(self.prog(program), names, cookies, flags, label))

    def attach_tracepoint(
        self, program: "Program | Prog | int", category: str, tracepoint: str, *, cookie: int = 0, label: str = ""
    ) -> AttachedLink:
        """Attach a program to the records of a tracepoint by a perf event of its own."""
        events = self.kernel.perf_tracepoints
        if event_id(category, tracepoint) is None:
            hint = did_you_mean(f"{category}:{tracepoint}", events.names())
            raise KernelError("attach", Errno.ENOENT, f"no tracepoint '{category}:{tracepoint}'{hint}")
        event = events.open(category, tracepoint)
        try:
            return self._attached(events.attach(self.prog(program), event, cookie, label))
        finally:
            event.put()

    def attach_perf_event(
        self,
        program: "Program | Prog | int",
        event: str = "cpu-clock",
        *,
        period: str | int = 0,
        frequency: int = 0,
        cpu: int = -1,
        pid: int = -1,
        cookie: int = 0,
        label: str = "",
    ) -> AttachedLink:
        """Let a program run for each sample of a software clock, ``cpu-clock`` or ``task-clock``.

        A sample is taken every ``period`` of a CPU's or a task's time (at least 10 us), or ``frequency`` times a
        second. Without ``cpu`` and ``pid`` the event is that of CPU 0.
        """
        if cpu == -1 and pid == -1:
            cpu = 0
        events = self.kernel.perf_events
        opened = events.open(event, period_ns=parse_duration(period), frequency=frequency, cpu=cpu, pid=pid)
        try:
            return self._attached(events.attach(self.prog(program), opened, cookie, label))
        finally:
            opened.put()

    def attach_iter(
        self,
        program: "Program | Prog | int",
        map_: "ObjectMap | int | None" = None,
        *,
        tid: int = 0,
        pid: int = 0,
        label: str = "",
    ) -> AttachedIter:
        """Attach an iterator program, whose ``read()`` returns what it writes.

        ``map_`` is the map whose elements it shows; ``tid`` or ``pid`` is the thread or process that iterators over
        tasks stop at.
        """
        info = b""
        if map_ is not None:
            fd = map_ if isinstance(map_, int) else map_.fd
            info = fd.to_bytes(4, "little")
        elif tid or pid:
            info = struct.pack("<III", tid, pid, 0)
        prog = self.prog(program)
        create = self.kernel.attach_table.point(AttachType.TRACE_ITER).link_create
        if prog.expected_attach_type != AttachType.TRACE_ITER or create is None:
            raise InputError("", f"program '{prog.name}' is no iterator", 'use SEC("iter/TARGET")')
        link = cast(Link, create(prog, 0, 0, {"iter_info": info}))
        link.label = label or link.label
        return AttachedIter(cast("HostNet", self), link)

    def auto_attach(self, program: "Program", *, obj: "Object | None" = None, label: str = "") -> AttachedLink | None:
        """Attach a program where its SEC() says, as libbpf does; None for programs that say nothing of the kind.

        ``obj`` is its object, which static tracepoints of user space need.
        """
        prog = self.prog(program)
        if prog.type == ProgType.TRACING and prog.expected_attach_type == AttachType.TRACE_RAW_TP:
            return self.attach_raw_tp(prog, label=label)
        if prog.type in (ProgType.TRACING, ProgType.LSM) and prog.expected_attach_type in KINDS:
            return self._trampoline(prog, prog.expected_attach_type, 0, label)
        if prog.type == ProgType.TRACING and prog.expected_attach_type == AttachType.TRACE_ITER:
            return self.attach_iter(prog, label=label)
        if prog.type == ProgType.EXT:
            return self.attach_freplace(prog, label=label)
        kind, _, target = program.section.partition("/")
        if prog.type in (ProgType.RAW_TRACEPOINT, ProgType.RAW_TRACEPOINT_WRITABLE):
            return self.attach_raw_tp(prog, target, label=label) if target else None
        if kind.removesuffix(".s") in USER_SECTIONS and target:
            return self.attach_to_user(kind, program, target, obj, label)
        attach = BY_SECTION.get(kind)
        return attach(self, prog, target, label) if attach is not None and target else None

    def _trampoline(self, program: "Program | Prog | int", kind: AttachType, cookie: int, label: str) -> AttachedLink:
        prog = self.prog(program)
        if prog.expected_attach_type != kind or prog.type not in (ProgType.TRACING, ProgType.LSM):
            what = f"program '{prog.name}' was not loaded for {KINDS[kind]}"
            raise InputError("", what, f'use SEC("{KINDS[kind]}/function")')
        opts = {"cookie": cookie}
        return self._attached(bpf_tracing_prog_attach(self.kernel, prog, opts, kind=kind, label=label))

    def _kprobe(
        self, program: "Program | Prog | int", function: str, is_return: bool, cookie: int, label: str
    ) -> AttachedLink:
        symbol, plus, offset = function.partition("+")
        try:
            number = int(offset, 0) if plus else 0
        except ValueError:
            raise InputError("", f"'{function}' is not FUNCTION+OFFSET", "for instance do_sys_openat2+0x1b") from None
        event = self.kernel.kprobes.open(symbol, number, is_return=is_return)
        try:
            return self._attached(self.kernel.kprobes.attach(self.prog(program), event, cookie, label))
        finally:
            event.put()

    def _matching(self, pattern: str) -> list[str]:
        if "*" not in pattern and "?" not in pattern:
            return [pattern]
        found = [name for name in self.kernel.functions.names() if fnmatchcase(name, pattern)]
        if not found:
            raise KernelError("attach", Errno.ENOENT, f"no function that is modelled matches '{pattern}'")
        return found

    def _function_of(self, prog: Prog, function: str) -> int:
        btf = prog.btf
        names: dict[str, int] = {}
        for sub in prog.subprogs:
            func = btf.type(sub.type_id) if btf is not None and sub.type_id else None
            if isinstance(func, Func):
                names[func.name] = sub.type_id
        if function not in names:
            hint = did_you_mean(function, names)
            raise InputError("", f"program '{prog.name}' has no function '{function}'{hint}")
        return names[function]

    def _attached(self, link: Link) -> AttachedLink:
        return AttachedLink(cast("HostNet", self), link)


Attach = Callable[[HostTracing, Prog, str, str], AttachedLink]
# sections of programs whose type says nothing of where they go
BY_SECTION: dict[str, Attach] = {
    "kprobe": lambda host, prog, target, label: host.attach_kprobe(prog, target, label=label),
    "kretprobe": lambda host, prog, target, label: host.attach_kretprobe(prog, target, label=label),
    "kprobe.multi": lambda host, prog, target, label: host.attach_kprobe_multi(prog, target, label=label),
    "kprobe.session": lambda host, prog, target, label: host.attach_kprobe_multi(prog, target, label=label),
    "kretprobe.multi": lambda host, prog, target, label: host.attach_kprobe_multi(
        prog, target, retprobe=True, label=label
    ),
    "tracepoint": lambda host, prog, target, label: host.attach_tracepoint(prog, *_two(target), label=label),
    "tp": lambda host, prog, target, label: host.attach_tracepoint(prog, *_two(target), label=label),
}


def _two(target: str) -> tuple[str, str]:
    category, _, name = target.partition("/")
    return category, name


def attach_all(host: HostTracing, obj: "Object") -> dict[str, AttachedLink]:
    """Attach every loaded program of an object where its SEC() says (bpf_object__attach_skeleton); links by program.

    A program that cannot be attached takes those that were attached before it off again.
    """
    links: dict[str, AttachedLink] = {}
    try:
        for program in obj.programs.values():
            link = host.auto_attach(program, obj=obj) if program.loaded else None
            if link is not None:
                links[program.name] = link
    except BaseException:
        for link in links.values():
            link.close()
        raise
    return links
