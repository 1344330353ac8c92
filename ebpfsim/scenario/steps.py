"""Events: what each kind of ``events`` entry puts on the time line."""

from collections import Counter
from collections.abc import Callable

from ebpfsim.attached_iter import AttachedIter
from ebpfsim.errors import InputError, KernelError
from ebpfsim.frames import sender_of
from ebpfsim.host_traffic import find_end
from ebpfsim.scenario.flows import instants, start_flow
from ebpfsim.scenario.frames import build_frames
from ebpfsim.scenario.mapvalues import update_map
from ebpfsim.scenario.objects import place_in
from ebpfsim.scenario.packets import PacketError
from ebpfsim.scenario.paths import locate
from ebpfsim.scenario.run import Path, Running
from ebpfsim.scenario.schema import EventBlock
from ebpfsim.task_steps import child_names
from ebpfsim.tasks import ChildTask
from netstack.headers import format_ip
from netstack.traffic import Generator, inject

__all__ = ["schedule"]


def schedule(running: Running) -> None:
    """Put all events on the time line, in the order of the file: so they happen at the same instant."""
    for index, event in enumerate(running.scenario.model.events):
        STEPS[event.kind](running, index, event)


def _send(running: Running, index: int, event: EventBlock) -> None:
    path: Path = ("events", index, "send")
    device = running.sim.hosts[str(event.host)].device(str(event.device))
    sender = sender_of(device, running.sim.owners())
    expr = running.checked.packets[index]
    try:
        frames, copies = build_frames(expr, sender, running.sim.rng, f"events.{index}.send", event.count or 1)
    except PacketError as error:
        place = place_in(running.scenario.node(*path), error.start, error.width)
        raise place.error(error.problem, error.hint) from None
    longest = max(map(len, frames))
    with running.at(*path):
        if longest > device.max_frame_bytes:
            mtu = f"mtu {device.mtu} of '{device.full_name}' allows {device.max_frame_bytes}"
            raise InputError("", f"frame has {longest} bytes, {mtu}", "a larger mtu on both sides")
        if event.every is None or event.every.is_constant:
            inject(device, frames, event.at, event.every_ns, copies=copies)
        else:
            times = instants(running, f"events.{index}.every", event.at, event.every, len(frames) * copies)
            Generator(device, zip(times, (frame for _ in range(copies) for frame in frames), strict=True))
    running.sent[index] = len(frames) * copies


def _replay(running: Running, index: int, event: EventBlock) -> None:
    with running.at("events", index, "replay"):
        capture = locate(running.scenario.folder, str(event.replay), "capture")
        host = running.sim.hosts[str(event.host)]
        try:
            running.sent[index] = host.replay(str(event.device), capture, speed=event.speed, at=event.at)
        except InputError as error:
            # the file's name as the scenario has it, not where it was found
            problem = error.problem.replace(str(capture), str(event.replay))
            raise InputError("", f"capture '{event.replay}': {problem}", error.hint) from None


def _attach(running: Running, index: int, event: EventBlock) -> None:
    block = event.attach
    assert block is not None
    running.sim.clock.call_at(event.at, lambda: running.attach(block, ("events", index, "attach")))


def _detach(running: Running, index: int, event: EventBlock) -> None:
    def detach() -> None:
        with running.at("events", index, "detach"):
            running.attachments[str(event.detach)].detach()

    running.sim.clock.call_at(event.at, detach)


def _read(running: Running, index: int, event: EventBlock) -> None:
    def read() -> None:
        name = str(event.read)
        with running.at("events", index, "read"):
            attachment = running.attachments[name]
            attachment.check_attached()
            assert isinstance(attachment.link, AttachedIter)
            running.reads.setdefault(name, []).extend(attachment.link.text.splitlines())

    running.sim.clock.call_at(event.at, read)


def _map(running: Running, index: int, event: EventBlock) -> None:
    def update() -> None:
        for text, values in (event.map or {}).items():
            update_map(running, ("events", index, "map", text), text, values)

    running.sim.clock.call_at(event.at, update)


def _socket(running: Running, index: int, event: EventBlock) -> None:
    name, data = str(event.socket), (event.data or "").encode()
    with running.at("events", index, "connect" if event.connect is not None else "to"):
        target = find_end(running.sim, *(event.connect or event.to or ("", 0)), needed=False)
    address = format_ip(target.address)

    def act() -> None:
        sock = running.sockets[name]
        try:
            if event.connect is not None:
                sock.connect(address, target.port)
            if event.to is not None:
                sock.sendto(data, address, target.port)
            elif event.data is not None:
                sock.send(data)
        except KernelError as error:
            running.refused.setdefault(name, Counter())[error.errno_name] += 1

    for when_ns in instants(running, f"events.{index}.every", event.at, event.every, event.count or 1):
        running.sim.clock.call_at(when_ns, act)


def _task(running: Running, index: int, event: EventBlock) -> None:
    block = event.task
    assert block is not None
    path: Path = ("events", index, "task")
    running.tasks[block.key] = running.sim.hosts[str(event.host)].spawn(
        block.name, uid=block.uid, gid=block.gid, cpu=block.cpu, steps=block.steps, at=event.at,
        cgroup=block.cgroup or "", stack=block.stack,
    )  # fmt: skip
    _adopt(running, block.key, running.tasks[block.key], (*path, "steps"))


def _adopt(running: Running, key: str, task: ChildTask, path: Path) -> None:
    # give the steps of a task, and of those that it makes, their names and places
    task.around = lambda step: running.at(*path, step)
    running.tasks[key] = task
    for (index, child), name in zip(
        task.children.items(), child_names(key, [task.steps[at].id for at in task.children]), strict=True
    ):
        _adopt(running, name, child, (*path, index, task.steps[index].call))


def _call(running: Running, index: int, event: EventBlock) -> None:
    block = event.call
    assert block is not None

    def call() -> None:
        with running.at("events", index, "call"):
            running.calls[index] = running.sim.hosts[str(event.host)].call(block.function, block.args)

    running.sim.clock.call_at(event.at, call)


STEPS: dict[str, Callable[[Running, int, EventBlock], None]] = {
    "send": _send,
    "replay": _replay,
    "attach": _attach,
    "detach": _detach,
    "read": _read,
    "map": _map,
    "socket": _socket,
    "flow": start_flow,
    "task": _task,
    "call": _call,
}
