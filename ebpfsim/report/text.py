"""What a run came to, in words and tables, made from the summary alone; the same bytes everywhere but on a terminal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ebpfsim.report.values import words
from netstack.drop_reasons import MEANINGS

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["duration", "print_summary"]

MAX_SHOWN_ENTRIES = 12
MAX_SHOWN_LINES = 8
UNITS = (("s", 10**9), ("ms", 10**6), ("us", 10**3))


def duration(time_ns: int) -> str:
    """Return nanoseconds with the largest unit that is not below one, exactly: ``1.5 ms``."""
    for unit, size in UNITS:
        if time_ns >= size:
            whole, rest = divmod(time_ns, size)
            fraction = f"{rest:0{len(str(size)) - 1}d}".rstrip("0")
            return f"{whole}.{fraction} {unit}" if fraction else f"{whole} {unit}"
    return f"{time_ns} ns"


def print_summary(summary: dict[str, Any], console: "Console") -> None:
    """Print a run's summary."""
    hosts = len(summary["hosts"])
    end = f"ended at {duration(summary['end_ns'])}"
    machines = f"{hosts} machine{'s' if hosts != 1 else ''}"
    console.print(f"{summary['scenario']}: {machines}, seed {summary['seed']}, {end}", style="bold")
    _happened(summary, console)
    _programs(summary, console)
    _silent(summary, console)
    _devices(summary, console)
    _tasks(summary, console)
    _maps(summary, console)
    _traces(summary, console)
    _reads(summary, console)
    _expectations(summary, console)
    _closing(summary, console)


def _table(console: "Console", title: str, columns: Iterable[str], rows: list[list[str]]) -> None:
    # columns that begin with # are numbers; empty tables are left out
    if not rows:
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console.print()
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for column in columns:
        table.add_column(column.lstrip("#"), justify="right" if column.startswith("#") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _happened(summary: dict[str, Any], console: "Console") -> None:
    lines: list[tuple[int, str]] = []
    for load in summary["loads"]:
        name = f"{load['object']}/{load['program']}" if load["object"] != load["program"] else load["program"]
        if load["verdict"] == "accept":
            effort = f"{load['insns']} instructions, the verifier walked {load['verified_insns']}"
            lines.append((0, f"{load['host']}: program '{name}' loaded: {effort}"))
        else:
            lines.append((0, f"{load['host']}: program '{name}' refused by the verifier ({load['errno']}):"))
            lines += [(0, f"    {line}") for line in load["log"][-MAX_SHOWN_LINES:]]
    for link in summary["links"]:
        where = link["hook"] + (f" of {link['device']}" if link["device"] else "")
        where += f", {link['mode']} mode" if link["mode"] else ""
        what = f"{link['host']}: '{link['program']}' attached to {where}, as '{link['id']}'"
        lines.append((link["attached_ns"], what))
    happened = [event for event in summary["events"] if event["at_ns"] <= summary["end_ns"]]
    lines += [(event["at_ns"], _event_words(event)) for event in happened if event["kind"] != "attach"]
    if later := len(summary["events"]) - len(happened):
        ahead = f"{later} event{'s' if later != 1 else ''} of the scenario did not happen any more"
        lines.append((summary["end_ns"], f"the run ends: {ahead}"))
    rows = [[duration(at), what] for at, what in sorted(lines, key=lambda row: row[0])]
    previous = ""
    for row in rows:
        row[0], previous = ("" if row[0] == previous else row[0]), row[0]
    _table(console, "What happened", ("#at", "what"), rows)


def _event_words(event: dict[str, Any]) -> str:
    match event["kind"]:
        case "send" | "replay":
            spaced = f", one every {duration(event['every_ns'])}" if event["every_ns"] and event["packets"] > 1 else ""
            frames = f"{event['packets']} packet{'s' if event['packets'] != 1 else ''}"
            verb = "sends" if event["kind"] == "send" else "replays"
            return f"{event['host']}: {verb} {frames} from {event['device']}{spaced}: {event['what']}"
        case "socket":
            does = f"connects to {event['connect']}" if "connect" in event else f"sends to {event['to']}"
            return f"socket '{event['what']}' {does}" + (f", {event['calls']} times" if event["calls"] > 1 else "")
        case "flow":
            size = f"{event['bytes']} bytes" if event["bytes"] is not None else "without end"
            kind, size = ("TCP", f", {size}") if event["type"] == "tcp" else (event["type"].replace("_", " "), "")
            return f"{event['host']}: {kind} flow '{event['what']}' to {event['to']}{size}"
        case "task":
            who = f"'{event['name']}' of user {event['uid']}"
            named = f", task '{event['what']}'," if event["what"] != event["name"] else ""
            return f"{event['host']}: {who}{named} starts: {event['steps']} step{'s' if event['steps'] != 1 else ''}"
        case "detach":
            return f"link '{event['what']}' is detached"
        case "call":
            returned = f", which returns {event['result']}" if event["result"] is not None else ""
            return f"{event['host']}: {event['what']}() is called{returned}"
        case "read":
            return f"iterator '{event['what']}' is read"
    return f"map '{event['what']}' is changed"


def _programs(summary: dict[str, Any], console: "Console") -> None:
    rows = [[*_program_place(link), *_program_numbers(link)] for link in summary["links"]]
    devices = all(link["device"] in summary["hosts"][link["host"]]["devices"] for link in summary["links"])
    place = "device" if devices else "where"
    _table(console, "Programs", ("link", "program", place, "#runs", "verdicts", "#ns/run", "#ns/packet"), rows)


def _silent(summary: dict[str, Any], console: "Console") -> None:
    for name, host in summary["hosts"].items():
        functions = host.get("silent_functions", ())
        if functions:
            names = ", ".join(f"{function}()" for function in functions)
            console.print()
            console.print(f"{name}: attached, but nothing in this model calls it: {names}")


def _program_place(link: dict[str, Any]) -> list[str]:
    place = f"{link['host']}/{link['device'].removeprefix('/')}" if link["device"] else link["host"]
    return [link["id"], link["program"], place]


def _program_numbers(link: dict[str, Any]) -> list[str]:
    if link["hook"] == "freplace":
        # it is called in the place of a function, where nobody counts
        return ["-", "part of its target", "-", "-"]
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in link["verdicts"].items()) or "none"
    return [str(link["runs"]), verdicts, f"{link['ns_per_run']:.1f}", f"{link['ns_per_packet']:.1f}"]


def _devices(summary: dict[str, Any], console: "Console") -> None:
    rows: list[list[str]] = []
    drops: list[list[str]] = []
    for name, host in summary["hosts"].items():
        for device, found in host["devices"].items():
            counters = found["counters"]
            numbers = [counters[key] for key in ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")]
            rows.append([f"{name}/{device}", *map(str, numbers)])
            drops += _drop_rows(f"{name}/{device}", found["drops"])
        drops += _drop_rows(f"{name}, before sending", host["drops"])
    _table(console, "Packets", ("device", "#sent", "#bytes sent", "#received", "#bytes received"), rows)
    _table(console, "Dropped", ("where", "reason", "#packets", "meaning"), drops)
    sockets = [
        [name, f"{row['host']} {row['udp']}", str(row["received"]), str(row["bytes"])]
        for name, row in summary["sockets"].items()
    ]
    _table(console, "Sockets", ("socket", "bound to", "#datagrams", "#bytes"), sockets)
    flows = [[name, f"{row['host']} > {row['to']}", *_flow_numbers(row)] for name, row in summary["flows"].items()]
    _table(console, "Flows", ("flow", "from and to", "#bytes", "#sent again", "#bit/s", ""), flows)


def _speed(flow: dict[str, Any]) -> str:
    if flow["done_ns"] is None:
        return "-"
    return str(round(flow["received"] * 8 * 1_000_000_000 / max(1, flow["done_ns"] - flow["started_ns"])))


def _flow_numbers(flow: dict[str, Any]) -> tuple[str, str, str, str]:
    return str(flow["received"]), str(flow["retransmits"]), _speed(flow), _flow_details(flow)


def _flow_details(flow: dict[str, Any]) -> str:
    match flow["type"]:
        case "udp":
            delay = f", {duration(flow['delay']['mean_ns'])} on the way" if flow["datagrams"] else ""
            return f"{flow['datagrams']} of {flow['sent']} datagrams{delay}"
        case "requests":
            latency = f", half in {duration(flow['latency']['p50_ns'])}" if flow["latency"] else ""
            return f"{flow['responses']} of {flow['sent']} answered{latency}"
        case "syn_flood":
            return f"{flow['sent']} SYNs"
    return ""


def _drop_rows(where: str, drops: dict[str, int]) -> list[list[str]]:
    return [[where, reason, str(count), MEANINGS.get(reason, "")] for reason, count in drops.items()]


def _tasks(summary: dict[str, Any], console: "Console") -> None:
    rows: list[list[str]] = []
    for name, task in summary["tasks"].items():
        first = [
            name,
            f"{task['host']}, pid {task['pid']}" if task["pid"] is not None else f"{task['host']}, not started",
        ]
        shown = task["steps"][:MAX_SHOWN_ENTRIES]
        for step in shown:
            took = duration(step["end_ns"] - step["start_ns"])
            rows.append([*first, str(step["step"]), step["what"], step["errno"] or str(step["result"]), took])
            first = ["", ""]
        if len(task["steps"]) > len(shown):
            rows.append([*first, "...", f"and {len(task['steps']) - len(shown)} more", "", ""])
            first = ["", ""]
        if task["steps_left"]:
            left = f"{task['steps_left']} step{'s' if task['steps_left'] != 1 else ''} not done"
            rows.append([*first, "", left, "", ""])
    _table(console, "Tasks", ("task", "on", "#step", "system call", "#result", "#took"), rows)


def _maps(summary: dict[str, Any], console: "Console") -> None:
    rows: list[list[str]] = []
    for name, found in summary["maps"].items():
        kind = f"{found['type']}, {found['max_entries']}"
        if found["entries"] is None:
            read = found.get("records", 0)
            rows.append([name, kind, "", f"{read} record{'s' if read != 1 else ''} read"])
            continue
        array = "array" in found["type"]
        entries = [entry for entry in found["entries"] if not array or not is_zero(entry["value"])]
        if not entries:
            rows.append([name, kind, "", "all zero" if array else "empty"])
        for index, entry in enumerate(entries[:MAX_SHOWN_ENTRIES]):
            first = [name, kind] if index == 0 else ["", ""]
            rows.append([*first, words(entry["key"]), words(entry["value"])])
        if len(entries) > MAX_SHOWN_ENTRIES:
            rows.append(["", "", "...", f"and {len(entries) - MAX_SHOWN_ENTRIES} more"])
    _table(console, "Maps", ("map", "type, size", "key", "value"), rows)


def is_zero(value: Any) -> bool:
    """Say whether a value is zero in all its parts."""
    match value:
        case dict():
            return all(is_zero(part) for part in value.values())
        case list():
            return all(is_zero(part) for part in value)
    return value in (0, "", "0.0.0.0", "00:00:00:00:00:00", None)


def _traces(summary: dict[str, Any], console: "Console") -> None:
    rows: list[list[str]] = []
    for name, host in summary["hosts"].items():
        lines = host["trace_pipe"]
        rows += [[name, line.strip()] for line in lines[:MAX_SHOWN_LINES]]
        if len(lines) > MAX_SHOWN_LINES:
            rows.append([name, f"... and {len(lines) - MAX_SHOWN_LINES} more lines"])
    _table(console, "Trace pipe", ("host", "line"), rows)


def _reads(summary: dict[str, Any], console: "Console") -> None:
    rows: list[list[str]] = []
    for name, lines in summary["reads"].items():
        rows += [[name, line] for line in lines[:MAX_SHOWN_LINES]]
        if len(lines) > MAX_SHOWN_LINES:
            rows.append([name, f"... and {len(lines) - MAX_SHOWN_LINES} more lines"])
    _table(console, "Read of iterators", ("link", "line"), rows)


def _expectations(summary: dict[str, Any], console: "Console") -> None:
    rows = [
        ["ok" if row["met"] else "NOT MET", row["what"], row["want"], row["have"]] for row in summary["expectations"]
    ]
    _table(console, "Expectations", ("", "expectation", "want", "have"), rows)


def _closing(summary: dict[str, Any], console: "Console") -> None:
    total, met = len(summary["expectations"]), sum(row["met"] for row in summary["expectations"])
    console.print()
    for row in summary["expectations"]:
        if not row["met"]:
            problem = f"{row['at']}: not met: {row['what']}: want {row['want']}, have {row['have']}"
            console.print(problem, style="red", soft_wrap=True)
    if total:
        style = "bold green" if met == total else "bold red"
        console.print(f"{met} of {total} expectations met", style=style)
    profiles = sorted({f"'{host['costs']['profile']}' ({host['costs']['cpu']})" for host in summary["hosts"].values()})
    console.print(f"nanoseconds by cost profile {' and '.join(profiles)}")
    console.print(f"digest {summary['digest']}")
