"""Rows of ``ebpfsim.scenario.hooks`` for functions and tracepoints of the kernel: ``target`` says which.

Programs that were loaded for a function (fentry and its like) name it in their SEC(); what a scenario says has to be
the same.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ebpfsim.attached import AttachedLink
from ebpfsim.errors import InputError
from ebpfsim.scenario.hook_row import HookRow
from ebpfsim.scenario.targets import parse_target
from ebpfsim.suggest import did_you_mean
from tracing.trace_events import event_id

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running
    from ebpfsim.scenario.schema import AttachBlock
    from ebpfsim.simulation import Host

__all__ = ["TRACING_HOOKS"]

Attach = Callable[["Running", "Host", "AttachBlock", int, str], AttachedLink]


def _cookie(block: "AttachBlock") -> int:
    value = block.cookie or 0
    if not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise InputError("", f"cookie '{value}' is no number of 64 bits")
    return value


def _function(host: "Host", block: "AttachBlock") -> str:
    target = str(block.target)
    name = target.partition("+")[0]
    known = [*host.kernel.functions.names()]
    hint = did_you_mean(name, known) if name not in known else ""
    if hint:
        raise InputError("", f"function '{name}' is not modelled{hint}")
    return target


def _loaded_for(running: "Running", host: "Host", block: "AttachBlock", fd: int) -> int:
    # the target of the program is the one that the scenario names
    target = host.prog(fd).attach_target
    name, wanted = target.name.removeprefix("bpf_lsm_") if target is not None else "", str(block.target)
    into = target.prog if target is not None else None
    if "/" in wanted:
        function = parse_target(wanted, running.checked.objects)
        fits = into is host.prog(running.program_fd(f"{function.object}/{function.program}"))
        wanted = wanted if not fits else function.function
    elif into is not None:
        wanted = f"{wanted}() of the kernel"
    if name != wanted:
        raise InputError("", f"program '{block.program}' was loaded for '{name}', not for '{wanted}'")
    return fd


def _freplace(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    target = parse_target(str(block.target), running.checked.objects)
    into = running.program_fd(f"{target.object}/{target.program}")
    return host.attach_freplace(fd, into, target.function, label=name)


def _kprobe(_running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    return host.attach_kprobe(fd, _function(host, block), cookie=_cookie(block), label=name)


def _kretprobe(_running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    return host.attach_kretprobe(fd, _function(host, block), cookie=_cookie(block), label=name)


def _kprobe_multi(_running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    return host.attach_kprobe_multi(fd, str(block.target), label=name)


def _raw_tp(_running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    return host.attach_raw_tp(fd, str(block.target), cookie=_cookie(block), label=name)


def _tp_btf(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    return host.attach_raw_tp(_loaded_for(running, host, block, fd), cookie=_cookie(block), label=name)


def _tracepoint(_running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    target = str(block.target)
    category, _, event = target.replace("/", ":").partition(":")
    if event_id(category, event) is None:
        hint = did_you_mean(f"{category}:{event}", host.kernel.perf_tracepoints.names())
        raise InputError("", f"no tracepoint '{target}'{hint}", "category:name, for instance sched:sched_switch")
    return host.attach_tracepoint(fd, category, event, cookie=_cookie(block), label=name)


def _user(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    target = running.checked.program(block.program)
    obj = running.objects.get(target.object)
    pid = _pid(running, block)
    if block.hook == "usdt":
        path, provider, tracepoint = (*str(block.target).rsplit(":", 2), "", "")[:3]
        if obj is None or not tracepoint:
            raise InputError("", f"target '{block.target}' is not PATH:PROVIDER:NAME")
        program = obj.programs[target.name]
        return host.attach_usdt(program, obj, path, provider, tracepoint, pid=pid, cookie=_cookie(block), label=name)
    path, _, function = str(block.target).rpartition(":")
    if not path:
        raise InputError("", f"target '{block.target}' is not PATH:FUNCTION", "/usr/bin/app:handle")
    if block.hook == "uprobe_multi":
        retprobe = obj is not None and obj.programs[target.name].section.startswith("uretprobe")
        return host.attach_uprobe_multi(fd, path, function, retprobe=retprobe, pid=max(0, pid), label=name)
    function, _, off = function.partition("+")
    return host.attach_uprobe(
        fd, path, function, offset=int(off or "0", 0), retprobe=block.hook == "uretprobe", pid=pid,
        cookie=_cookie(block), label=name,
    )  # fmt: skip


def _pid(running: "Running", block: "AttachBlock") -> int:
    if block.task is None:
        return -1
    task = running.tasks.get(block.task)
    if task is None or not task.running:
        raise InputError("", f"task '{block.task}' does not run at this time")
    return task.pid


def _perf_event(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    pid = _pid(running, block)
    if not block.period and not block.frequency:
        raise InputError("", "a sample needs 'period' or 'frequency'", "frequency: 1000, times a second")
    return host.attach_perf_event(
        fd, str(block.event), period=block.period or 0, frequency=block.frequency or 0,
        cpu=-1 if block.cpu is None else block.cpu, pid=pid, cookie=_cookie(block), label=name,
    )  # fmt: skip


def _trampoline(method: str) -> Attach:
    def attach(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
        call: Callable[..., AttachedLink] = getattr(host, method)
        return call(_loaded_for(running, host, block, fd), cookie=_cookie(block), label=name)

    return attach


_COOKIE = ("cookie",)
TRACING_HOOKS: Mapping[str, HookRow] = {
    **{name: HookRow("target", _COOKIE, _trampoline(f"attach_{name}"), "too") for name in ("fentry", "fexit")},
    "fmod_ret": HookRow("target", _COOKIE, _trampoline("attach_fmod_ret")),
    "freplace": HookRow("target", (), _freplace, "only"),
    "lsm": HookRow("target", _COOKIE, _trampoline("attach_lsm")),
    **{name: HookRow("target", ("cookie", "task"), _user) for name in ("uprobe", "uretprobe", "usdt")},
    "uprobe_multi": HookRow("target", ("task",), _user),
    "perf_event": HookRow("event", ("period", "frequency", "cpu", "task", "cookie"), _perf_event),
    "kprobe": HookRow("target", _COOKIE, _kprobe),
    "kretprobe": HookRow("target", _COOKIE, _kretprobe),
    "kprobe_multi": HookRow("target", (), _kprobe_multi),
    "raw_tp": HookRow("target", _COOKIE, _raw_tp),
    "tp_btf": HookRow("target", _COOKIE, _tp_btf),
    "tracepoint": HookRow("target", _COOKIE, _tracepoint),
}
