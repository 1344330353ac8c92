"""The page of a run: lanes and marks are what was recorded, and the file needs no other."""

import json
import re
from typing import Any

import pytest

from ebpfsim.report.summary import summarize
from ebpfsim.report.timeline import MAX_MARKS, render_report, timeline
from ebpfsim.scenario.check import check_scenario
from ebpfsim.scenario.expect import judge
from ebpfsim.scenario.load import load_scenario
from ebpfsim.scenario.run import Running, build, finish
from ebpfsim.scenario.steps import schedule


def finished(name: str) -> tuple[Running, dict[str, Any]]:
    running = build(check_scenario(load_scenario(name, (), None)))
    schedule(running)
    finish(running, running.scenario.model.until)
    return running, summarize(running, judge(running))


@pytest.fixture(scope="module")
def chain() -> tuple[Running, dict[str, Any]]:
    return finished("xdp/freplace-chain")


def lanes(data: dict[str, Any], host: str) -> dict[str, list[Any]]:
    found = next(each for each in data["hosts"] if each["name"] == host)
    return {lane["name"]: lane["marks"] for lane in found["lanes"]}


def test_every_frame_and_run_has_its_mark(chain: tuple[Running, dict[str, Any]]) -> None:
    data = timeline(*chain)
    server = lanes(data, "server")
    assert list(server) == ["eth0 in", "eth0 out", "programs on CPU 0"]
    assert len(server["eth0 in"]) == len(server["programs on CPU 0"]) == 51
    dropped = [mark for mark in server["eth0 in"] if "XDP_DROP" in mark[3]]
    assert len(dropped) == 10
    assert data["colours"][dropped[0][2]] == "#d64b3c"
    assert "UDP, 10.0.0.1:4000 > 10.0.0.2:23, 47 bytes, XDP_DROP" in dropped[0][3]
    assert [mark[0] for mark in server["eth0 in"]] == sorted(mark[0] for mark in server["eth0 in"])


def test_changes_are_those_of_hooks(chain: tuple[Running, dict[str, Any]]) -> None:
    changes = next(host for host in timeline(*chain)["hosts"] if host["name"] == "server")["changes"]
    assert [(at, kind) for at, kind, _ in changes if kind in ("attach", "detach")] == [
        (0, "attach"), (0, "attach"), (2_000_000, "attach"), (4_000_000, "detach"),
    ]  # fmt: skip


def test_tables_say_who_met_which_programs(chain: tuple[Running, dict[str, Any]]) -> None:
    page = render_report(*chain)
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    assert ["server", "2 ms", "4 ms", "XDP_DROP 10, XDP_PASS 10", "dispatcher 20"] in cells


def test_page_needs_nothing_else(chain: tuple[Running, dict[str, Any]]) -> None:
    page = render_report(*chain)
    assert page.startswith("<!DOCTYPE html>")
    assert not re.findall(r'(?:src|href)="', page)
    assert "@" not in re.sub(r"@media", "", page.partition("<script id")[0])
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page)
    assert data is not None
    assert json.loads(data[1])["end_ns"] == chain[1]["end_ns"]
    assert page == render_report(*finished("xdp/freplace-chain"))


def test_steps_of_tasks_are_bars() -> None:
    running, summary = finished("lsm/deny-open")
    marks = lanes(timeline(running, summary), "server")["task mallory"]
    results = [re.search(r" = (\w+), ", mark[3]) for mark in marks]
    assert [found[1] for found in results if found is not None] == ["3", "EPERM", "EPERM", "8"]
    assert all(span > 0 for _, span, _, _ in marks)


def test_what_users_write_is_no_markup(chain: tuple[Running, dict[str, Any]]) -> None:
    running, summary = chain
    page = render_report(running, {**summary, "scenario": "</script><b>x", "file": "a&b @DATA@"})
    assert page.count("@DATA@") == 1
    assert "<b>x" not in page
    assert "a&amp;b" in page
    note = running.sim.recorder.notes[0]
    running.sim.recorder.notes[0] = type(note)(note.time_ns, note.host, note.kind, "</script><i>y", note.details)
    try:
        assert "<i>y" not in render_report(running, summary)
    finally:
        running.sim.recorder.notes[0] = note


def test_long_lanes_end_and_say_so(chain: tuple[Running, dict[str, Any]]) -> None:
    running, summary = chain
    packets = running.sim.recorder.packets
    running.sim.recorder.packets = [packets[0]] * (MAX_MARKS + 5)
    try:
        found = lanes(timeline(running, summary), packets[0].host)
    finally:
        running.sim.recorder.packets = packets
    name = next(iter(found))
    assert name.endswith(f"(first {MAX_MARKS})")
    assert len(found[name]) == MAX_MARKS
