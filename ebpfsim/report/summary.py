"""What a run came to, as plain data: what ``--json`` prints and what the words are made from. Keys are promised."""

from collections import Counter
from typing import Any

from ebpfsim.errors import InputError, KernelError
from ebpfsim.loader import ObjectMap
from ebpfsim.records import find_type
from ebpfsim.report.values import readable
from ebpfsim.scenario.expect import Result
from ebpfsim.scenario.flows import flow_summary
from ebpfsim.scenario.mapvalues import PERCPU
from ebpfsim.scenario.run import Attachment, LoadOutcome, Running
from ebpfsim.scenario.schema import EventBlock
from ebpfsim.task_steps import Step
from ebpfsim.uapi.bpf import MapType
from netstack.tcp_flow import BulkFlow
from netstack.udp_flow import shown

__all__ = ["summarize"]

VERSION = 1
MAX_ENTRIES = 10_000
# maps whose entries user space cannot list (kernel/bpf/ringbuf.c, queue_stack_maps.c, ...)
UNLISTED = (
    *(MapType.RINGBUF, MapType.USER_RINGBUF, MapType.QUEUE, MapType.STACK, MapType.PERF_EVENT_ARRAY),
    *(MapType.CGROUP_ARRAY, MapType.SK_STORAGE, MapType.TASK_STORAGE, MapType.INODE_STORAGE, MapType.CGRP_STORAGE),
    MapType.STRUCT_OPS,
)


def summarize(running: Running, results: list[Result]) -> dict[str, Any]:
    """Return the summary of a finished run."""
    scenario, sim = running.scenario, running.sim
    return {
        "version": VERSION,
        "scenario": scenario.name,
        "file": scenario.shown_path,
        "seed": sim.seed,
        "end_ns": sim.now_ns,
        "met": all(result.met for result in results),
        "hosts": {name: _host(running, name) for name in sim.hosts},
        "loads": [_load(running, row) for row in running.loads],
        "links": [_link(attachment) for attachment in running.attachments.values()],
        "events": [_event(running, index, event) for index, event in enumerate(scenario.model.events)],
        "maps": {name: _map(running, name) for name in _map_names(running)},
        "sockets": {name: _socket(running, name) for name in running.sockets},
        "flows": {name: _flow(running, name) for name in running.flows},
        "tasks": {name: _task(running, name) for name in running.tasks},
        "reads": dict(running.reads),
        "records": {name: _records(running, name) for name in running.records},
        "wires": [_wire(running, index) for index in range(len(sim.wires))],
        "expectations": [_expectation(result) for result in results],
        "digest": f"sha256:{running.digest()}",
    }


def _host(running: Running, name: str) -> dict[str, Any]:
    host = running.sim.hosts[name]
    drops: dict[str, Counter[str]] = {}
    for record in running.sim.recorder.packets:
        if record.host == name and record.reason:
            drops.setdefault(record.device, Counter())[record.reason] += 1
    devices = {
        device.name: {
            "mac": device.mac.hex(":"),
            "counters": device.stats.as_dict(),
            "drops": dict(sorted(drops.get(device.name, {}).items())),
        }
        for device in host.net.devices.values()
        if not device.loopback
    }
    # packets that the host built itself and that never became frames
    notes = [note for note in running.sim.recorder.notes if note.host == name and note.kind == "drop"]
    own_drops = Counter(str(note.details["reason"]) for note in notes)
    costs = host.kernel.costs
    profile = {"profile": costs.name, "cpu": costs.cpu, "mitigations": host.kernel.config.mitigations}
    trace = running.traces.get(name, "").splitlines()
    return {
        "cpus": len(host.kernel.cpus),
        "costs": profile,
        "devices": devices,
        "drops": dict(sorted(own_drops.items())),
        "trace_pipe": trace,
        # functions that programs were attached to and that nothing in this model calls
        "silent_functions": host.kernel.functions.silent,
    }


def _records(running: Running, name: str) -> dict[str, Any]:
    found, records = running.map_of(name), running.records[name]
    given = [expect.type for expect in running.scenario.model.expect if expect.records == name and expect.type]
    wanted = running.checked.records.get(name) or (given[0] if given else None)
    try:
        type_ = find_type(found, wanted, [len(record) for record in records])
    except InputError:
        if name in running.checked.records:
            raise
        return {"type": None, "records": [record.hex() for record in records[:MAX_ENTRIES]]}
    values = [type_.value(record) for record in records[:MAX_ENTRIES]]
    return {"type": type_.name, "count": len(records), "records": values}


def _load(running: Running, row: LoadOutcome) -> dict[str, Any]:
    error = row.error
    return {
        "object": row.object,
        "program": row.program,
        "host": running.checked.objects[row.object].block.host,
        "verdict": "accept" if error is None else "reject",
        "insns": row.insns,
        "verified_insns": row.verified_insns,
        "errno": error.errno_name if error is not None else None,
        "message": getattr(error, "reason", str(error)) if error is not None else None,
        "log": getattr(error, "log", "").splitlines() if isinstance(error, KernelError) else [],
    }


def _link(attachment: Attachment) -> dict[str, Any]:
    return {
        "id": attachment.id,
        "program": attachment.program,
        "host": attachment.host,
        "device": attachment.device,
        "hook": attachment.hook,
        "mode": attachment.mode,
        "attached_ns": attachment.attached_ns,
        "runs": attachment.runs,
        "verdicts": attachment.verdicts,
        "ns_per_run": attachment.ns_per_run,
        "ns_per_packet": attachment.ns_per_packet,
    }


def _event(running: Running, index: int, event: EventBlock) -> dict[str, Any]:
    row: dict[str, Any] = {"at_ns": event.at, "kind": event.kind}
    if event.kind in ("send", "replay"):
        row |= {"host": event.host, "device": event.device, "what": event.send or event.replay}
        row |= {"packets": running.sent.get(index, 0), "every_ns": event.every_ns}
    elif event.attach is not None:
        row["what"] = event.attach.program
    elif event.detach is not None:
        row["what"] = event.detach
    elif event.read is not None:
        row["what"] = event.read
    elif event.socket is not None:
        verb, address = ("connect", event.connect) if event.connect is not None else ("to", event.to)
        assert address is not None
        row |= {"what": event.socket, "calls": event.count or 1, "every_ns": event.every_ns}
        row[verb] = f"{address[0]}:{address[1]}"
    elif event.flow is not None and event.to is not None:
        row |= {"host": event.host, "what": event.flow, "to": f"{event.to[0]}:{event.to[1]}", "bytes": event.bytes}
        row |= {"type": event.flow_type}
    elif event.task is not None:
        task = event.task
        row |= {"host": event.host, "what": task.key, "name": task.name, "uid": task.uid, "steps": len(task.steps)}
    elif event.call is not None:
        row |= {"host": event.host, "what": event.call.function, "result": running.calls.get(index)}
    elif event.map is not None:
        row["what"] = ", ".join(event.map)
    return row


def _map_names(running: Running) -> list[str]:
    return [
        f"{name}/{found.name}"
        for name, obj in running.objects.items()
        for found in obj.maps.values()
        if found.created and not found.spec.is_data
    ]


def _map(running: Running, name: str) -> dict[str, Any]:
    found = running.map_of(name)
    kind = found.type.lower if isinstance(found.type, MapType) else str(found.type)
    summary: dict[str, Any] = {"type": kind, "max_entries": found.max_entries}
    if found.type in UNLISTED:
        return {**summary, "entries": None, "records": len(running.records.get(name, []))}
    entries: list[dict[str, Any]] = []
    for key in found.keys_bytes():
        if len(entries) == MAX_ENTRIES:
            summary["cut"] = True
            break
        value = _value(running, name, found, key)
        if value is not None:
            entries.append(value)
    return {**summary, "entries": entries}


def _value(running: Running, name: str, found: ObjectMap, key: bytes) -> dict[str, Any] | None:
    spec = running.checked.objects[name.partition("/")[0]].spec
    btf = spec.btf if spec is not None else None
    try:
        value = found[key]
    except KeyError:
        return None  # an empty slot of an array of objects
    if found.type in PERCPU:
        shown: Any = [readable(btf, found.value_type_id, part) for part in value]
    elif found.type == MapType.PROG_ARRAY:
        prog = running.sim.hosts[running.checked.objects[name.partition("/")[0]].block.host].kernel.progs.find(value)
        shown = prog.name if prog is not None else value
    else:
        shown = readable(btf, found.value_type_id, value)
    return {"key": readable(btf, found.key_type_id, found.decode_key(key)), "value": _plain(shown)}


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
    return value


def _socket(running: Running, name: str) -> dict[str, Any]:
    socket, block = running.sockets[name], running.scenario.model.sockets[name]
    address, port = block.udp
    size = sum(len(datagram.data) for datagram in socket.received)
    return {"host": block.host, "udp": f"{address}:{port}", "received": len(socket.received), "bytes": size}


def _flow(running: Running, name: str) -> dict[str, Any]:
    flow = running.flows[name]
    event = next(event for event in running.scenario.model.events if event.flow == name)
    more = {"type": event.flow_type, **flow_summary(flow)}
    if not isinstance(flow, BulkFlow):
        to = f"{event.to[0]}:{event.to[1]}" if event.to is not None else ""
        ends = {"host": event.host, "to": to, "received": getattr(flow, "received", 0), "bytes": event.bytes}
        times = {"started_ns": event.at, "done_ns": getattr(flow, "done_ns", -1) if flow.ended else None}
        return ends | {"retransmits": getattr(flow, "retransmits", 0)} | times | more
    end = {"host": flow.source.name, "to": f"{shown(flow.address)}:{flow.port}"}
    counts = {"received": flow.received, "bytes": flow.size, "retransmits": flow.retransmits}
    return end | counts | {"started_ns": flow.started_ns, "done_ns": flow.done_ns if flow.ended else None} | more


def _task(running: Running, name: str) -> dict[str, Any]:
    # tasks that have not started have no pid
    task = running.tasks[name]
    block = running.checked.tasks[name]
    steps = [
        {
            "step": result.step,
            "call": result.call,
            "what": str(task.steps[result.step]),
            "args": _arguments(task.steps[result.step]),
            "as": task.steps[result.step].name or None,
            "result": result.retval,
            "errno": result.errno or None,
            "start_ns": result.start_ns,
            "end_ns": result.end_ns,
        }
        for result in task.results
    ]
    return {
        "host": task.host,
        "name": task.name,
        "uid": block.uid,
        "pid": task.pid if task.started else None,
        "ended": task.started and not task.running,
        "steps": steps,
        "steps_left": len(task.steps) - len(steps),
    }


def _arguments(step: Step) -> list[Any]:
    if step.bpf is not None:
        return [step.bpf.command.name, {name: _plain(value) for name, value in step.bpf.fields.items()}]
    return [_plain(arg) for arg in step.args]


def _wire(running: Running, index: int) -> dict[str, Any]:
    wire = running.sim.wires[index]
    return {
        "ends": list(running.scenario.model.links[index].ends),
        "directions": [
            {
                "from": channel.src.full_name,
                "to": channel.dst.full_name,
                "offered": channel.stats.offered,
                "dropped": channel.stats.dropped,
                "lost": channel.stats.lost,
                "delivered": channel.stats.delivered,
            }
            for channel in (wire.ab, wire.ba)
        ],
    }


def _expectation(result: Result) -> dict[str, Any]:
    return {
        "at": result.at,
        "expectation": result.where,
        "what": result.what,
        "want": result.want,
        "have": result.have,
        "met": result.met,
    }
