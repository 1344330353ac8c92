"""Words and tables from a summary."""

import io
from typing import Any

import pytest
from rich.console import Console

from ebpfsim.report.text import duration, is_zero, print_summary


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1 us"),
        (1_500_000, "1.5 ms"),
        (1_000_001, "1.000001 ms"),
        (3_000_000_000, "3 s"),
        (61_000_000_001, "61.000000001 s"),
    ],
)
def test_durations_are_exact(time_ns: int, text: str) -> None:
    assert duration(time_ns) == text


def test_zero_in_all_parts() -> None:
    assert is_zero({"a": 0, "b": [0, "0.0.0.0"]})
    assert not is_zero({"a": 0, "b": [0, 1]})


def summary(**changes: Any) -> dict[str, Any]:
    host = {"cpus": 1, "costs": {"profile": "p", "cpu": "some CPU", "mitigations": "auto"}, "devices": {}, "drops": {}}
    empty: dict[str, Any] = {
        "scenario": "s", "seed": 1, "end_ns": 5, "met": True, "hosts": {"a": {**host, "trace_pipe": []}}, "loads": [],
        "links": [], "events": [], "maps": {}, "sockets": {}, "flows": {}, "tasks": {}, "reads": {},
        "expectations": [], "digest": "sha256:0",
    }  # fmt: skip
    return {**empty, **changes}


def printed(**changes: Any) -> str:
    stream = io.StringIO()
    print_summary(summary(**changes), Console(file=stream, width=80, color_system=None))
    return stream.getvalue()


def test_nothing_happened() -> None:
    assert (
        printed()
        == "s: 1 machine, seed 1, ended at 5 ns\n\nnanoseconds by cost profile 'p' (some CPU)\ndigest sha256:0\n"
    )


def test_packets_that_never_became_frames_are_dropped_by_their_host() -> None:
    host = summary()["hosts"]["a"] | {"drops": {"NEIGH_FAILED": 3}}
    assert "\na, before sending   NEIGH_FAILED         3   nobody answered ARP" in printed(hosts={"a": host})


def test_events_after_the_end_did_not_happen() -> None:
    events = [{"at_ns": at_ns, "kind": "detach", "what": name} for at_ns, name in ((5, "early"), (6, "late"), (7, "x"))]
    text = printed(events=events)
    assert "link 'early' is detached" in text
    assert "late" not in text
    assert "the run ends: 2 events of the scenario did not happen any more" in text


def test_maps_show_what_is_in_them_and_cut_long_ones() -> None:
    entries = [{"key": key, "value": key % 2} for key in range(40)]
    text = printed(
        maps={
            "o/array": {"type": "array", "max_entries": 40, "entries": entries},
            "o/hash": {"type": "hash", "max_entries": 4, "entries": []},
            "o/zeros": {"type": "percpu_array", "max_entries": 4, "entries": [{"key": 0, "value": [0, 0]}]},
            "o/ring": {"type": "ringbuf", "max_entries": 4096, "entries": None},
        }
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "o/array array, 40 1 1" in lines
    assert "... and 8 more" in lines
    assert "o/hash hash, 4 empty" in lines
    assert "o/zeros percpu_array, 4 all zero" in lines
    assert "o/ring ringbuf, 4096 0 records read" in lines


def test_values_are_never_taken_for_markup() -> None:
    text = printed(
        maps={"o/[bold]m": {"type": "hash", "max_entries": 1, "entries": [{"key": "[red]", "value": ":smile:"}]}}
    )
    assert "o/[bold]m" in text
    assert "[red]" in text
    assert ":smile:" in text


def test_unmet_expectations_come_with_their_place() -> None:
    row = {"what": "link 'l': runs", "want": "1", "have": "2", "met": False, "at": "x.yaml:9:5"}
    text = printed(met=False, expectations=[row, {**row, "what": "other", "met": True}])
    assert "x.yaml:9:5: not met: link 'l': runs: want 1, have 2\n1 of 2 expectations met\n" in text


def test_tasks_show_their_calls_and_what_is_left() -> None:
    steps = [
        {"step": 0, "what": "openat(/x, O_RDONLY)", "result": -2, "errno": "ENOENT", "start_ns": 5, "end_ns": 1505},
        {"step": 1, "what": "getpid()", "result": 1000, "errno": None, "start_ns": 1505, "end_ns": 1600},
    ]
    tasks = {
        "cat": {"host": "h", "pid": 1000, "steps": steps, "steps_left": 3},
        "late": {"host": "h", "pid": None, "steps": [], "steps_left": 1},
    }
    lines = [line.split() for line in printed(tasks=tasks).splitlines()]
    assert ["cat", "h,", "pid", "1000", "0", "openat(/x,", "O_RDONLY)", "ENOENT", "1.5", "us"] in lines
    assert ["1", "getpid()", "1000", "95", "ns"] in lines
    assert ["3", "steps", "not", "done"] in lines
    assert ["late", "h,", "not", "started", "1", "step", "not", "done"] in lines


def test_what_replaces_a_function_has_no_runs_of_its_own() -> None:
    link = {
        "id": "x", "program": "o/p", "host": "a", "device": "d/m/f", "hook": "freplace", "mode": "", "attached_ns": 0,
        "runs": 0, "verdicts": {}, "ns_per_run": 0.0, "ns_per_packet": 0.0,
    }  # fmt: skip
    text = printed(links=[link, {**link, "id": "y", "hook": "fentry", "device": "vfs_read", "runs": 3}])
    lines = [line.split() for line in text.splitlines()]
    assert ["link", "program", "where", "runs", "verdicts", "ns/run", "ns/packet"] in lines
    assert ["x", "o/p", "a/d/m/f", "-", "part", "of", "its", "target", "-", "-"] in lines
    assert ["y", "o/p", "a/vfs_read", "3", "none", "0.0", "0.0"] in lines
