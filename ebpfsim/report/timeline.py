"""``ebpfsim run --report``: what happened in a run, on one line of time, as one HTML file that needs no other.

Each host has a lane for the frames of a device, for the program runs of a CPU, and for the steps of a task; changes of
hooks (attach, detach, update, dispatchers and trampolines that are built anew, text pokes) are lines across them. So
one sees which packets met the old programs and which the new ones.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from typing import Any

from ebpfsim.recorder import Note, PacketRecord, ProgRun
from ebpfsim.report.network import picture
from ebpfsim.report.text import duration
from ebpfsim.report.timeline_page import PAGE
from ebpfsim.scenario.run import Running

__all__ = ["render_report", "timeline"]

MAX_MARKS = 20_000  # of a lane; those behind are left out, and the lane says so
# (time, how long, colour, text)
Mark = tuple[int, int, int, str]
# verdicts first, then what programs are told apart by
COLOURS = (
    "#2e9e5b", "#d64b3c", "#3b7dd8", "#8a5cc9", "#8b949e",
    "#d98324", "#1f9aa8", "#c2508f", "#7a8f2a", "#5166c4", "#a0603c", "#2b8a6e", "#b23a6b", "#6b7a12", "#7050a8",
)  # fmt: skip
PASSED, DROPPED, SENT, ABORTED, OTHER = range(5)
FIRST_PROGRAM = 5
_VERDICTS = {"XDP_DROP": DROPPED, "XDP_TX": SENT, "XDP_REDIRECT": SENT, "XDP_ABORTED": ABORTED}
# what is a change of a hook, and not a packet that was dropped or the like
_NO_CHANGE = ("drop",)
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP"}


def timeline(running: Running, summary: dict[str, Any]) -> dict[str, Any]:
    """Return the lanes, marks and changes of a finished run as plain data."""
    recorder = running.sim.recorder
    programs: dict[str, int] = {}
    for run in recorder.runs:
        programs.setdefault(run.prog, FIRST_PROGRAM + len(programs) % (len(COLOURS) - FIRST_PROGRAM))
    hosts: list[dict[str, Any]] = []
    for name in running.sim.hosts:
        packets = [record for record in recorder.packets if _host(record.host) == name]
        runs = [run for run in recorder.runs if _host(run.host) == name]
        lanes = [*_device_lanes(name, packets), *_cpu_lanes(runs, programs), *_task_lanes(name, summary)]
        changes = [[note.time_ns, note.kind, note.text] for note in _changes(recorder.notes, name)]
        hosts.append({"name": name, "lanes": lanes, "changes": changes})
    used = {mark[2] for host in hosts for lane in host["lanes"] for mark in lane["marks"]}
    key = [("passed or sent", PASSED), ("dropped", DROPPED), ("sent back or on by XDP", SENT), ("task", OTHER)]
    return {
        "end_ns": summary["end_ns"],
        "colours": COLOURS,
        "key": [
            row for row in (*key, *((f"program {name}", each) for name, each in programs.items())) if row[1] in used
        ],
        "hosts": hosts,
    }


def render_report(running: Running, summary: dict[str, Any]) -> str:
    """Return the page of a finished run."""
    data = json.dumps(timeline(running, summary), separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "@TITLE@": escape(f"{summary['scenario']} - ebpfsim"),
        "@HEAD@": _head(summary),
        "@NETWORK@": f"<h2>The network</h2>\n{network}" if (network := picture(running.sim)) else "",
        "@TABLES@": "\n".join(_tables(running, summary)),
        "@DATA@": data,
    }
    return re.sub("|".join(parts), lambda found: parts[found[0]], PAGE)


def _host(name: str) -> str:
    # records of another namespace are HOST/NAMESPACE
    return name.partition("/")[0]


def _changes(notes: Iterable[Note], host: str) -> Iterator[Note]:
    return (note for note in notes if _host(note.host) == host and note.kind not in _NO_CHANGE)


def _lane(name: str, marks: list[Mark]) -> dict[str, Any]:
    left_out = len(marks) - MAX_MARKS
    if left_out > 0:
        name = f"{name} (first {MAX_MARKS})"
    return {"name": name, "marks": marks[:MAX_MARKS]}


def _device_lanes(host: str, packets: list[PacketRecord]) -> Iterator[dict[str, Any]]:
    by_lane: dict[str, list[Mark]] = {}
    for record in packets:
        namespace = record.host.removeprefix(host).lstrip("/")
        device = f"{namespace}/{record.device}" if namespace else record.device
        lane = by_lane.setdefault(f"{device} {record.direction}", [])
        lane.append((record.time_ns, 0, _packet_colour(record), _packet_words(record)))
    for name in sorted(by_lane):
        yield _lane(name, by_lane[name])


def _packet_colour(record: PacketRecord) -> int:
    if record.verdict in _VERDICTS:
        return _VERDICTS[record.verdict]
    return DROPPED if record.reason else PASSED


def _packet_words(record: PacketRecord) -> str:
    data, words = record.data, [f"{len(record.data)} bytes"]
    if data[12:14] == b"\x08\x00" and len(data) >= 34:
        proto, off = data[23], 14 + 4 * (data[14] & 15)
        ends = [".".join(str(byte) for byte in data[at : at + 4]) for at in (26, 30)]
        if proto in (6, 17) and len(data) >= off + 4:
            ports = (int.from_bytes(data[at : at + 2], "big") for at in (off, off + 2))
            ends = [f"{end}:{port}" for end, port in zip(ends, ports, strict=True)]
        words = [_PROTOCOLS.get(proto, f"protocol {proto}"), f"{ends[0]} > {ends[1]}", *words]
    elif data[12:14] == b"\x08\x06":
        words = ["ARP", *words]
    return ", ".join(filter(None, (*words, record.verdict, record.reason)))


def _cpu_lanes(runs: list[ProgRun], programs: dict[str, int]) -> Iterator[dict[str, Any]]:
    by_cpu: dict[int, list[Mark]] = {}
    for run in runs:
        place = f" of {run.device}" if run.device else ""
        said = run.verdict or str(run.retval)
        link = f", link '{run.link}'" if run.link else ""
        text = f"{run.hook}{place}: {run.prog} (id {run.prog_id}){link}: {said}, {run.insns} instructions"
        by_cpu.setdefault(run.cpu, []).append((run.time_ns, run.cost_ps // 1000, programs[run.prog], text))
    for cpu in sorted(by_cpu):
        yield _lane(f"programs on CPU {cpu}", by_cpu[cpu])


def _task_lanes(host: str, summary: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, task in summary["tasks"].items():
        if task["host"] != host:
            continue
        marks: list[Mark] = []
        for step in task["steps"]:
            if step["start_ns"] is None:
                continue
            result = step["errno"] or step["result"]
            end = step["end_ns"] if step["end_ns"] is not None else summary["end_ns"]
            text = f"{step['what']} = {result}, {duration(end - step['start_ns'])}"
            marks.append((step["start_ns"], end - step["start_ns"], OTHER, text))
        yield _lane(f"task {name}", marks)


def _head(summary: dict[str, Any]) -> str:
    total = len(summary["expectations"])
    met = sum(row["met"] for row in summary["expectations"])
    state = (
        f'<span class="{"met" if met == total else "unmet"}">{met} of {total} expectations met</span>' if total else ""
    )
    machines = f"{len(summary['hosts'])} machine{'s' if len(summary['hosts']) != 1 else ''}"
    end = escape(f"{machines}, seed {summary['seed']}, ended at {duration(summary['end_ns'])}")
    return (
        f'<h1>{escape(summary["scenario"])}</h1>\n<p class="dim">{end} · {escape(summary["file"])}</p>\n<p>{state}</p>'
    )


def _tables(running: Running, summary: dict[str, Any]) -> Iterator[str]:
    rows = [
        [duration(note.time_ns), note.host, note.kind, note.text]
        for name in running.sim.hosts
        for note in _changes(running.sim.recorder.notes, name)
    ]
    yield _table("Changes of hooks", ["#at", "host", "what", ""], rows)
    yield _table(
        "Between the changes", ["host", "#from", "#to", "frames received", "program runs"], _stretches(running)
    )
    links = [_link_row(link) for link in summary["links"]]
    yield _table("Programs", ["link", "program", "where", "#attached at", "#runs", "verdicts", "#ns/run"], links)
    judged = [
        ["ok" if row["met"] else "NOT MET", row["what"], row["want"], row["have"]] for row in summary["expectations"]
    ]
    yield _table("Expectations", ["", "expectation", "want", "have"], judged)


def _link_row(link: dict[str, Any]) -> list[str]:
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in link["verdicts"].items())
    where, at = f"{link['host']} {link['device']}", duration(link["attached_ns"])
    return [link["id"], link["program"], where, at, str(link["runs"]), verdicts, f"{link['ns_per_run']:.1f}"]


def _stretches(running: Running) -> list[list[str]]:
    # what each host has seen from one change of its hooks to the next
    recorder, rows = running.sim.recorder, []
    for name in running.sim.hosts:
        times = sorted({note.time_ns for note in _changes(recorder.notes, name)})
        packets = [record for record in recorder.packets if _host(record.host) == name and record.direction == "in"]
        runs = [run for run in recorder.runs if _host(run.host) == name]
        for start, end in pairwise([*times, running.sim.now_ns + 1]):
            seen = Counter(
                record.verdict or record.reason or "passed" for record in packets if start <= record.time_ns < end
            )
            ran = Counter(run.prog for run in runs if start <= run.time_ns < end)
            words = [", ".join(f"{word} {count}" for word, count in sorted(each.items())) for each in (seen, ran)]
            rows.append([name, duration(start), duration(min(end, running.sim.now_ns)), *words])
    return rows


def _table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    # columns that begin with # are numbers
    if not rows:
        return ""
    kinds = [' class="n"' if column.startswith("#") else "" for column in columns]
    head = "".join(f"<th{kind}>{escape(name.lstrip('#'))}</th>" for kind, name in zip(kinds, columns, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<h2>{escape(title)}</h2>\n<table><tr>{head}</tr>\n{body}\n</table>"
