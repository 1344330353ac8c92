"""Expectations: what each kind of ``expect`` entry compares, as rows of what is wanted and what there is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.values import from_bytes
from ebpfsim.recorder import PacketRecord
from ebpfsim.records import find_type
from ebpfsim.report.values import readable, words
from ebpfsim.scenario.check_tasks import step_names
from ebpfsim.scenario.expect_net import drop_rows, neighbour_rows, snmp_rows
from ebpfsim.scenario.flows import flow_rows
from ebpfsim.scenario.layers import check_value, field_of, layer_class
from ebpfsim.scenario.mapvalues import (
    PERCPU,
    lookup,
    normal_key,
    same_record,
    same_value,
)
from ebpfsim.scenario.run import Path, Running
from ebpfsim.scenario.schema import ExpectBlock, PacketsBlock
from ebpfsim.uapi.net import XdpAction
from netstack.drop_reasons import RX_MISSED, SkbDropReason
from netstack.tcp_flow import BulkFlow

__all__ = ["Result", "judge"]

Count = tuple[int, int]


@dataclass(frozen=True)
class Result:
    """One comparison: ``what`` was looked at, ``want`` and ``have`` in words, ``where`` the expectation stands."""

    what: str
    want: str
    have: str
    met: bool
    where: str
    at: str


def judge(running: Running) -> list[Result]:
    """Compare every expectation with what happened."""
    results: list[Result] = []
    for index, expect in enumerate(running.scenario.model.expect):
        path: Path = ("expect", index)
        with running.at(*path):
            for what, want, have, met in KINDS[expect.kind](running, expect, path):
                place = running.scenario.node(*path).where
                results.append(Result(what, want, have, met, f"expect.{index}", place))
    return results


Row = tuple[str, str, str, bool]


def _counted(what: str, want: Count, have: int) -> Row:
    low, high = want
    text = str(low) if low == high else f"{low} to {high}"
    return what, text, str(have), low <= have <= high


def _link(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    name = str(expect.link)
    attachment = running.attachments.get(name)
    runs, verdicts = (attachment.runs, attachment.verdicts) if attachment is not None else (0, {})
    if expect.runs is not None:
        yield _counted(f"link '{name}': runs", expect.runs, runs)
    for verdict, want in (expect.verdicts or {}).items():
        yield _counted(f"link '{name}': {verdict}", want, verdicts.get(verdict, 0))


def _map(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    name = str(expect.map)
    found = running.map_of(name)
    btf = running.checked.objects[name.partition("/")[0]].spec
    types = btf.btf if btf is not None else None
    given = expect.model_fields_set

    def row(key: Any, want: Any, *place: str | int) -> Row:
        with running.at(*path, *place):
            have = lookup(found, key)
            met = same_value(found, types, want, have)
        shown = want if met else readable(types, found.value_type_id, have) if found.type not in PERCPU else have
        return f"map '{name}'[{words(key)}]", words(want), words(_named(want, shown)), met

    if "equals" in given and "key" in given:
        yield row(expect.key, expect.equals, "equals")
    elif "equals" in given:
        yield from _whole_map(running, expect, path, row, types)
    for key, want in (expect.contains or {}).items():
        yield row(key, want, "contains", key)
    if expect.entries is not None:
        yield _counted(f"map '{name}': entries", expect.entries, len(found))


def _whole_map(
    running: Running, expect: ExpectBlock, path: Path, row: Callable[..., Row], types: Btf | None
) -> Iterator[Row]:
    # exactly these entries; what an array holds besides must be zero
    name = str(expect.map)
    found = running.map_of(name)
    with running.at(*path, "equals"):
        wanted = dict(expect.equals or {})
        known = [normal_key(found, key) for key in wanted]
    for key, want in wanted.items():
        yield row(key, want, "equals", key)
    others = {
        words(readable(types, found.key_type_id, key)): readable(types, found.value_type_id, value)
        for key, value in found.items()
        if key not in known and not _is_zero(value)
    }
    yield f"map '{name}': other entries", "none", words(others) if others else "none", not others


def _is_zero(value: Any) -> bool:
    match value:
        case dict():
            return all(_is_zero(part) for part in value.values())
        case list() | tuple():
            return all(_is_zero(part) for part in value)
        case bytes():
            return not any(value)
    return value in (0, "", None)


def _named(want: Any, have: Any) -> Any:
    # of a struct, the fields that the expectation names
    if isinstance(want, dict) and isinstance(have, dict):
        return {field: _named(want[field], have.get(field)) for field in want}
    return have


def _packets(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    block = expect.packets
    assert block is not None
    matches = cache(partial(_matches, block.match or {}))
    count = sum(1 for record in running.sim.recorder.packets if _selected(block, record) and matches(record.data))
    matching = f" {words(block.match)}" if block.match else ""
    verdict = f" {block.verdict}" if block.verdict else ""
    what = f"packets {block.direction} at '{block.host}/{block.device}'{matching}{verdict}"
    yield _counted(what, expect.count or (0, 0), count)


# records of frames that were never taken in, or never left
_NOT_IN = (RX_MISSED,)
_NOT_OUT = (SkbDropReason.QDISC_DROP.name,)


def _selected(block: PacketsBlock, record: PacketRecord) -> bool:
    if (f"{record.host}/{record.device}", record.direction) != (f"{block.host}/{block.device}", block.direction):
        return False
    if block.verdict is not None:
        if record.verdict != block.verdict:
            return False
    elif record.verdict not in ("", XdpAction.XDP_PASS.name) or record.reason in (*_NOT_IN, *_NOT_OUT):
        # as a capture on that host would show it: behind XDP, and what went onto the wire
        return False
    return True


def _matches(match: dict[str, dict[str, Any] | None], frame: bytes) -> bool:
    if not match:
        return True
    packet = layer_class("Ether")(frame)
    for layer, fields in match.items():
        found = packet.getlayer(layer_class(layer))
        if found is None:
            return False
        for name, value in (fields or {}).items():
            if not _field_matches(field_of(layer, name), found, check_value(layer, name, value)):
                return False
    return True


def _field_matches(field: Any, layer: Any, want: Any) -> bool:
    # a list is one of its values, as are the addresses of a network; a tuple is a range
    have = layer.getfieldval(field.name)
    if isinstance(want, list) and not field.islist:
        return any(_field_matches(field, layer, part) for part in want)
    if isinstance(want, tuple):
        return bool(want[0] <= have <= want[1])
    if isinstance(want, str) and isinstance(have, bytes):
        return want.encode() == have
    if isinstance(want, str) and isinstance(have, str):
        return want.lower() == have.lower()
    return bool(field.any2i(layer, want) == have)


def _socket(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    name = str(expect.socket)
    received = running.sockets[name].received
    if expect.received is not None:
        yield _counted(f"socket '{name}': datagrams received", expect.received, len(received))
    refused: dict[str, int] = dict(running.refused.get(name, {}))
    for errno, want in (expect.refused or {}).items():
        yield _counted(f"socket '{name}': calls refused with {errno}", want, refused.get(errno, 0))
    if expect.payloads is not None:
        have = [datagram.data.decode(errors="backslashreplace") for datagram in received]
        yield f"socket '{name}': data received", words(expect.payloads), words(have), have == expect.payloads
    if expect.contains is not None:
        text = str(expect.contains)
        count = sum(1 for datagram in received if text.encode() in datagram.data)
        yield f"socket '{name}': datagrams with '{text}'", "1 or more", str(count), count > 0


def _flow(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    name = str(expect.flow)
    flow = running.flows[name]
    for words_, want, number in flow_rows(running, expect):
        yield _counted(f"flow '{name}': {words_}", want, number)
    if expect.received is not None and isinstance(flow, BulkFlow):
        yield f"flow '{name}': bytes are right", "all", "all" if flow.good else "not all", flow.good
    if expect.ended is not None:
        have = "ended" if flow.ended else "not ended"
        yield f"flow '{name}'", "ended" if expect.ended else "not ended", have, flow.ended == expect.ended


def _device(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    host, _, device = str(expect.device).partition("/")
    counters = running.sim.hosts[host].device(device).stats.as_dict()
    for name, want in (expect.counters or {}).items():
        yield _counted(f"device '{expect.device}': {name}", want, counters[name])


def _trace_pipe(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    host = str(expect.trace_pipe)
    yield _lines(expect, f"trace pipe of '{host}'", running.traces[host].splitlines())


def _audit(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    host = str(expect.audit)
    yield _lines(expect, f"audit log of '{host}'", [str(row) for row in running.sim.hosts[host].kernel.audit.records])


def _lines(expect: ExpectBlock, what: str, lines: list[str]) -> Row:
    text = str(expect.contains)
    count = sum(1 for line in lines if text in line)
    what = f"{what}: lines with '{text}'"
    if expect.count is not None:
        return _counted(what, expect.count, count)
    return what, "1 or more", str(count), count > 0


def _read(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    name, text = str(expect.read), str(expect.contains or "")
    count = sum(1 for line in running.reads.get(name, ()) if text in line)
    what = f"lines read of '{name}'" + (f" with '{text}'" if text else "")
    if expect.count is not None:
        yield _counted(what, expect.count, count)
    else:
        yield what, "1 or more", str(count), count > 0


def _load(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    object_name, _, program = str(expect.load).partition("/")
    loads = [row for row in running.loads if row.object == object_name and program in ("", row.program)]
    refused = [row for row in loads if row.error is not None]
    have = "reject" if refused else "accept" if loads else "not loaded"
    yield f"load '{expect.load}'", str(expect.verdict), have, have == expect.verdict
    error = refused[0].error if refused else None
    if expect.errno is not None:
        errno = error.errno_name if error is not None else "none"
        yield f"load '{expect.load}': errno", expect.errno, errno, errno == expect.errno
    if expect.message is not None:
        log = getattr(error, "log", "")
        met = expect.message in log
        reason = getattr(error, "reason", "none")
        yield f"load '{expect.load}': message", expect.message, expect.message if met else reason, met


def _records(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    name = str(expect.records)
    records = running.records[name]
    if expect.count is not None:
        yield _counted(f"records of '{name}'", expect.count, len(records))
    wanted = {"first", "last", "contains"} & expect.model_fields_set
    found = running.map_of(name)
    if not wanted:
        return
    with running.at(*path):
        btf, type_id = find_type(found, expect.type, [len(record) for record in records])
    size = sizeof(btf, type_id)
    for which, chosen in (("first", records[:1]), ("last", records[-1:])):
        if which in expect.model_fields_set:
            want = getattr(expect, which)
            met = bool(chosen) and same_record(btf, type_id, want, chosen[0])
            have: Any = None
            if chosen and len(chosen[0]) >= size:
                have = readable(btf, type_id, from_bytes(btf, type_id, chosen[0][:size]))
            shown = want if met else _named(want, have)
            yield f"{which} record of '{name}'", words(want), words(shown) if chosen else "no record", met
    if "contains" in expect.model_fields_set:
        count = sum(1 for record in records if same_record(btf, type_id, expect.contains, record))
        yield f"records of '{name}' with {words(expect.contains)}", "1 or more", str(count), count > 0


def _task(running: Running, expect: ExpectBlock, path: Path) -> Iterator[Row]:
    name = str(expect.task)
    task, block = running.tasks[name], running.checked.tasks[name]
    if expect.step is not None:
        step = step_names(block)[expect.step] if isinstance(expect.step, str) else expect.step
        what = f"task '{name}': step {step}, {task.steps[step].call}"
        result = task.results[step] if step < len(task.results) else None
        retval = "not reached" if result is None else str(result.retval)
        if expect.errno is not None:
            have = retval if result is None or not result.errno else result.errno
            yield what, expect.errno, have, result is not None and result.errno == expect.errno
        if expect.result is not None:
            low, high = expect.result
            met = result is not None and low <= result.retval <= high
            shown = f"{retval} ({result.errno})" if result is not None and result.errno else retval
            yield what, str(low) if low == high else f"{low} to {high}", retval if met else shown, met
    if expect.ended is not None:
        ended = task.started and not task.running
        have = "ended" if ended else "still running" if task.started else "not started"
        yield f"task '{name}'", "ended" if expect.ended else "not ended", have, ended == expect.ended


def _each(rows: Callable[..., Iterator[Row]], running: Running, expect: ExpectBlock, _path: Path) -> Iterator[Row]:
    yield from rows(running, expect)


KINDS: dict[str, Callable[[Running, ExpectBlock, Path], Iterator[Row]]] = {
    "link": _link,
    "map": _map,
    "packets": _packets,
    "socket": _socket,
    "flow": _flow,
    "device": _device,
    "snmp": partial(_each, snmp_rows),
    "drops": partial(_each, drop_rows),
    "neighbour": partial(_each, neighbour_rows),
    "trace_pipe": _trace_pipe,
    "audit": _audit,
    "read": _read,
    "load": _load,
    "records": _records,
    "task": _task,
}
