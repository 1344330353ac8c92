"""Iterators and tables of functions in scenarios."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.hooks import HOOKS
from ebpfsim.scenario.hooks_objects import OBJECT_HOOKS

if TYPE_CHECKING:
    from conftest import Play

SCENARIO = """\
hosts: {{h: {{}}}}
objects: {{ps: {{host: h, file: bpf/tasks.bpf.o}}}}
attach: [{attach}]
events: [{events}]
expect: [{expect}]
"""
TASKS = "{id: tasks, program: ps, hook: iter}"


def test_rows_are_in_the_table_of_all_hooks() -> None:
    assert dict(OBJECT_HOOKS).items() <= dict(HOOKS).items()


@pytest.mark.parametrize(
    ("expect", "met"),
    [
        ("{read: tasks, contains: init, count: 2}", True),
        ("{read: tasks, contains: COMMAND, count: 2}", True),
        ("{read: tasks, contains: init}", True),
        ("{read: tasks, contains: nobody}", False),
    ],
)
def test_iterator_is_read_anew_each_time(play: "Play", tmp_path: Path, expect: str, met: bool) -> None:
    events = "{at: 1us, read: tasks}, {at: 2us, read: tasks}"
    running, results = play(SCENARIO.format(attach=TASKS, events=events, expect=expect), tmp_path)
    assert [result.met for result in results] == [met]
    # the header comes with the first task; at the end the program is called once more
    assert running.attachments["tasks"].runs == len(running.reads["tasks"])
    assert running.reads["tasks"][0] == "  PID   UID COMMAND"


WRONG = [
    (TASKS, "{at: 1us, read: other}", "unknown link 'other'"),
    ("{id: x, program: ps/none, hook: struct_ops}", "", "unknown table of functions of 'ps': 'none'"),
    ("{id: tasks, program: ps, hook: iter, device: lo}", "", "key 'device' does not belong to hook 'iter'"),
    ("{id: tasks, program: ps, hook: iter, map: ps/m}", "", "unknown map of 'ps': 'm'"),
]


@pytest.mark.parametrize(("attach", "events", "problem"), WRONG)
def test_mistakes(play: "Play", tmp_path: Path, attach: str, events: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as wrong:
        play(SCENARIO.format(attach=attach, events=events, expect=""), tmp_path)
    assert problem in str(wrong.value)


def test_only_iterators_can_be_read(play: "Play", tmp_path: Path) -> None:
    text = SCENARIO.format(attach="{id: x, program: p, hook: xdp, device: lo}", events="{at: 1us, read: x}", expect="")
    text = text.replace(
        "{host: h, file: bpf/tasks.bpf.o}}",
        '{host: h, file: bpf/tasks.bpf.o}, p: {host: h, type: xdp, asm: "r0 = 2; exit"}}',
    )
    with pytest.raises(ScenarioError, match="link 'x' is no iterator"):
        play(text, tmp_path)
