"""Tasks in scenarios: what is wrong with their steps, files and expectations, and where."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebpfsim.errors import NotModelled, ScenarioError

if TYPE_CHECKING:
    from conftest import Play

SCENARIO = """\
hosts:
  h:
    cpus: 2
    files:
      /srv/public.txt: hello
      /srv/secret: {content: x, mode: 0o600}
      /home/bob/: {mode: 0o700, uid: 1000}
      /etc/passwd: "changed"
events:
  - at: 3ms
    host: h
    task:
      name: cat
      uid: 1001
      steps:
        - {openat: [/srv/public.txt, O_RDONLY], as: fd}
        - {read: [$fd, 16]}
        - {openat: [/srv/secret]}
        - {creat: [/home/bob/x, 0o644]}
        - {openat: /etc/passwd, as: passwd}
        - {read: [$passwd, 16]}
  - {at: 4ms, host: h, task: {id: again, name: cat, cpu: 1, steps: [getpid, {sleep: 1ms}, {close: 7}]}}
expect:
  - {task: cat, step: fd, result: 3}
  - {task: cat, step: 1, result: 5}
  - {task: cat, step: 2, errno: EACCES}
  - {task: cat, step: 3, result: -13}
  - {task: cat, step: 5, result: [7, 7]}
  - {task: again, ended: true}
"""


def test_tasks_meet_what_is_expected_of_them(play: "Play") -> None:
    running, results = play(SCENARIO)
    assert [(result.what, result.have) for result in results if not result.met] == []
    assert len(results) == 6
    assert running.tasks["cat"].results[0].start_ns == 3_000_000


UNMET = [
    ("{task: cat, step: 2, errno: EPERM}", "task 'cat': step 2, openat", "EPERM", "EACCES"),
    ("{task: cat, step: 0, errno: EPERM}", "task 'cat': step 0, openat", "EPERM", "3"),
    ("{task: cat, step: fd, result: [4, 9]}", "task 'cat': step 0, openat", "4 to 9", "3"),
    ("{task: cat, step: 2, result: 0}", "task 'cat': step 2, openat", "0", "-13 (EACCES)"),
    ("{task: again, step: 2, result: 0}", "task 'again': step 2, close", "0", "not reached"),
    ("{task: again, ended: true}", "task 'again'", "ended", "still running"),
    ("{task: cat, ended: false}", "task 'cat'", "not ended", "ended"),
]


@pytest.mark.parametrize(("text", "what", "want", "have"), UNMET)
def test_what_is_not_met(play: "Play", tmp_path: Path, text: str, what: str, want: str, have: str) -> None:
    head = SCENARIO.partition("expect:")[0]
    _, (result,) = play(f"{head}expect: [{text}]", tmp_path, "until=4500us")
    assert (result.what, result.want, result.have, result.met) == (what, want, have, False)


def test_a_task_that_does_not_start(play: "Play", tmp_path: Path) -> None:
    head = SCENARIO.partition("expect:")[0]
    _, (result,) = play(f"{head}expect: [{{task: again, ended: true}}]", tmp_path, "until=1ms")
    assert result.have == "not started"


# what is there -> what is typed instead, with ¦ before the place of the error; what is said
WRONG = [
    ("O_RDONLY", "¦O_RDNLY", "'O_RDNLY' is no number and no constant; did you mean 'O_RDONLY'?"),
    ("{read: [$fd, 16]}", "{¦raed: [$fd, 16]}", "unknown system call 'raed'; did you mean 'read'?"),
    ("{read: [$fd, 16]}", "{read: ¦[$fd]}", "read has 1 argument, expected 2"),
    ("{read: [$fd, 16]}", "{read: [¦$fdd, 16]}", "'$fdd' is no result of an earlier step; did you mean 'fd'?"),
    ("{read: [$fd, 16]}", "{read: [¦$passwd, 16]}", "'$passwd' is no result of an earlier step"),
    ("{read: [$fd, 16]}", "{read: [$fd, 16], ¦ass: x}", "unknown key 'ass'; did you mean 'as'?"),
    ("id: again, ", "¦", "there is a task 'cat' already"),
    ("cpu: 1", "cpu: ¦7", "host 'h' has no CPU 7"),
    ("name: cat, cpu", "nane: cat, cpu", "missing key 'name' in 'task'"),
    ("      /srv/public.txt:", "      ¦/etc/passwd/x:", "'/etc/passwd' is a file, not a directory"),
    ("      /srv/public.txt:", "      ¦srv/public.txt:", "expected a path, have 'srv/public.txt'"),
    ("      /srv/public.txt:", "      ¦/srv/../x:", "path '/srv/../x' is not a plain one"),
    ("/srv/public.txt: hello", "/srv/: ¦hello", "directory '/srv/' has content"),
    ("task: cat, step: fd", "task: ¦cta, step: fd", "unknown task 'cta'; did you mean 'cat'?"),
    ("step: fd, result: 3", "step: ¦fdd, result: 3", "unknown step of task 'cat': 'fdd'; did you mean 'fd'?"),
    ("step: 2, errno", "step: ¦9, errno", "task 'cat' has 6 steps, no step 9"),
    ("errno: EACCES", "errno: ¦EACES", "unknown errno 'EACES'; did you mean 'EACCES'?"),
    ("step: 2, errno: EACCES", "¦errno: EACCES", "'errno' needs 'step'"),
    ("step: fd, result: 3", "step: ¦fd, ended: true", "nothing is expected of step 'fd'"),
    ("result: [7, 7]", "result: ¦[7, 6]", "range [7, 6] is empty"),
    ("result: [7, 7]", "result: ¦x", "expected a result, have 'x'"),
]


@pytest.mark.parametrize(("old", "new", "problem"), WRONG)
def test_mistakes_have_their_places(play: "Play", old: str, new: str, problem: str) -> None:
    assert SCENARIO.count(old) >= 1
    head, _, tail = SCENARIO.partition(old)
    with pytest.raises(ScenarioError) as caught:
        play(head + new.replace("¦", "") + tail)
    assert problem in str(caught.value)
    if "¦" in new:
        before = head + new.partition("¦")[0]
        line, col = before.count("\n") + 1, len(before) - before.rfind("\n")
        if old != "id: again, ":
            assert f"x.yaml:{line}:{col}:" in str(caught.value)


def test_what_linux_has_and_we_have_not(play: "Play") -> None:
    with pytest.raises(NotModelled, match="system call 'reboot'") as caught:
        play(SCENARIO.replace("{read: [$fd, 16]}", "{reboot: [2, 1, 0]}"))
    assert "x.yaml:17:12" in str(caught.value.at)


def test_a_step_that_fails_while_it_runs_has_a_place(play: "Play") -> None:
    # what the results of steps are is known only then
    with pytest.raises(ScenarioError, match=r"x.yaml:17:11: error: -13 bytes are too many"):
        play(SCENARIO.replace("/srv/public.txt, O_RDONLY", "/srv/secret, O_RDONLY").replace("[$fd, 16]", "[0, $fd]"))


CHILDREN = """\
hosts: {h: {}}
events:
  - at: 1ms
    host: h
    task:
      name: sh
      steps:
        - {openat: /etc/passwd, as: fd}
        - {fork: [{read: [$fd, 8], as: got}, {fork: [getpid], id: grand}], id: child, as: pid}
        - {wait4: $pid}
        - fork
        - {bpf: [PROG_LOAD, {prog_type: socket_filter, insns: "r0 = 0; exit"}], as: prog}
expect:
  - {task: child, step: got, result: 8}
  - {task: grand, ended: true}
  - {task: sh-2, ended: true}
  - {audit: h, contains: op=LOAD, count: 1}
"""


def test_children_are_tasks_of_the_scenario(play: "Play") -> None:
    running, results = play(CHILDREN)
    assert [result.met for result in results] == [True] * 4
    assert list(running.tasks) == ["sh", "child", "grand", "sh-2"]
    assert running.tasks["grand"].host == "h"


WRONG_CHILDREN = [
    ("$fd, 8", "¦$fdd, 8", "'$fdd' is no result of an earlier step; did you mean 'fd'?"),
    ("[getpid]", "[¦getpdi]", "unknown system call 'getpdi'; did you mean 'getpid'?"),
    ("id: grand", "id: ¦child", "there is a task 'child' already"),
    ("id: child", "id: ¦sh", "there is a task 'sh' already"),
    ("step: got", "step: ¦gto", "unknown step of task 'child': 'gto'; did you mean 'got'?"),
    ("task: sh-2", "task: ¦sh-3", "unknown task 'sh-3'; did you mean 'sh-2'?"),
    ("socket_filter", "¦socket_filtr", "unknown prog_type 'socket_filtr'; did you mean 'socket_filter'?"),
    ("PROG_LOAD", "¦PROG_LAOD", "unknown command of bpf(2) 'PROG_LAOD'; did you mean 'PROG_LOAD'?"),
    ("$pid}", "$pid, ¦id: x}", "'id' does not belong to wait4"),
    ("audit: h", "audit: ¦hh", "unknown host 'hh'"),
]


@pytest.mark.parametrize(("old", "new", "problem"), WRONG_CHILDREN)
def test_mistakes_of_children_have_their_places(play: "Play", old: str, new: str, problem: str) -> None:
    head, found, tail = CHILDREN.partition(old)
    assert found
    with pytest.raises(ScenarioError) as caught:
        play(head + new.replace("¦", "") + tail)
    assert problem in str(caught.value)
    before = head + new.partition("¦")[0]
    line, col = before.count("\n") + 1, len(before) - before.rfind("\n")
    assert f"x.yaml:{line}:{col}:" in str(caught.value)
