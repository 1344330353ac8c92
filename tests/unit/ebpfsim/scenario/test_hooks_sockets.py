"""Hooks of flows and sockets in scenarios: what is attached is asked, what is wrong is told at its place."""

from typing import TYPE_CHECKING

import pytest

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.hooks import HOOKS
from ebpfsim.scenario.hooks_sockets import SOCKET_HOOKS

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Play

SCENARIO = """\
hosts: {{h: {{}}, other: {{}}}}
objects:
  p: {{host: h, type: {type}, asm: "r0 = {code}; exit"}}
sockets:
  s: {{host: h, udp: "127.0.0.1:9", reuseport: true}}
  t: {{host: h, udp: "127.0.0.1:9", reuseport: true}}
  far: {{host: other, udp: "127.0.0.1:9", reuseport: true}}
  out: {{host: h, udp: "127.0.0.1:10"}}
attach: [{attach}]
events: [{{at: 1us, socket: out, to: "127.0.0.1:9", data: x, count: 3}}]
"""


def test_rows_are_in_the_table_of_all_hooks() -> None:
    assert dict(SOCKET_HOOKS).items() <= dict(HOOKS).items()


@pytest.mark.parametrize(
    ("attach", "kind", "code", "verdicts", "received"),
    [
        ("{id: x, program: p, hook: sk_lookup}", "sk_lookup", 1, {"SK_PASS": 3}, 3),
        ("{id: x, program: p, hook: sk_lookup}", "sk_lookup", 0, {"SK_DROP": 3}, 0),
        ("{id: x, program: p, hook: sk_reuseport, socket: s}", "sk_reuseport", 1, {"SK_PASS": 3}, 3),
        ("{id: x, program: p, hook: sk_reuseport, socket: t}", "sk_reuseport", 0, {"SK_DROP": 3}, 0),
        # bytes that are kept, the header's eight included
        ("{id: x, program: p, hook: socket_filter, socket: t}", "socket_filter", 0, {}, 0),
        # nobody asks for a hash here
        ("{id: x, program: p, hook: flow_dissector}", "flow_dissector", 0, {}, 3),
    ],
)
def test_what_was_attached_is_asked(
    play: "Play", tmp_path: "Path", attach: str, kind: str, code: int, verdicts: dict[str, int], received: int
) -> None:
    running, _ = play(SCENARIO.format(type=kind, code=code, attach=attach), tmp_path)
    assert running.attachments["x"].verdicts == verdicts
    assert sum(len(running.sockets[name].received) for name in "st") == received


WRONG = [
    ("{program: p, hook: sk_reuseport}", "hook 'sk_reuseport' needs the key 'socket'"),
    ("{program: p, hook: sk_reuseport, socket: u}", "unknown socket 'u'"),
    ("{program: p, hook: sk_reuseport, socket: far}", "host 'h' has no socket 'far'"),
    ("{program: p, hook: sk_reuseport, socket: s, device: lo}", "key 'device' does not belong to hook 'sk_reuseport'"),
]


@pytest.mark.parametrize(("attach", "problem"), WRONG)
def test_mistakes(play: "Play", tmp_path: "Path", attach: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as wrong:
        play(SCENARIO.format(type="sk_reuseport", code=1, attach=attach), tmp_path)
    assert problem in str(wrong.value)
    assert ".yaml:9:" in str(wrong.value)


def test_packets_are_steered_to_cpus_that_there_are(play: "Play", tmp_path: "Path") -> None:
    text = "hosts: {h: {cpus: 2, interfaces: {eth0: {address: 10.0.0.1/24, rps: [1, 2]}}}}\n"
    with pytest.raises(ScenarioError, match="host 'h' has no CPU 2"):
        play(text, tmp_path)
    running, _ = play(text.replace("[1, 2]", "[0, 1]"), tmp_path)
    assert running.sim.hosts["h"].device("eth0").rps_cpus == (0, 1)


SOCKMAP = """\
hosts: {{h: {{}}}}
objects:
  s: {{host: h, file: bpf/splice.bpf.o}}
  v: {{host: h, type: sk_skb, asm: "r0 = 1; exit"}}
attach: [{attach}]
"""


def test_programs_of_sockmaps(play: "Play", tmp_path: "Path") -> None:
    attach = (
        "{id: m, program: s/shortcut, hook: sk_msg, map: s/sockets}, {id: v, program: v, hook: sk_skb, map: s/sockets}"
    )
    running, _ = play(SOCKMAP.format(attach=attach), tmp_path)
    host = running.sim.hosts["h"]
    links = {name: running.attachments[name].link.info() for name in "mv"}  # type: ignore[union-attr]
    # BPF_SK_MSG_VERDICT, BPF_SK_SKB_VERDICT
    assert [links[name]["attach_type"] for name in "mv"] == [7, 38]
    assert {links[name]["map_id"] for name in "mv"} == {host.bpf.obj_get_info_by_fd(running.map_of("s/sockets").fd).id}


@pytest.mark.parametrize(
    ("attach", "problem"),
    [
        ("{program: s/shortcut, hook: sk_msg}", "hook 'sk_msg' needs the key 'map'"),
        ("{program: s/shortcut, hook: sk_msg, map: s/socket}", "unknown map of 's': 'socket'; did you mean 'sockets'?"),
        ("{program: s/shortcut, hook: sk_msg, map: s/.bss}", "map 's/.bss' holds no sockets"),
    ],
)
def test_mistakes_with_sockmaps(play: "Play", tmp_path: "Path", attach: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as wrong:
        play(SOCKMAP.format(attach=attach), tmp_path)
    assert problem in str(wrong.value)
    assert ".yaml:5:" in str(wrong.value)
