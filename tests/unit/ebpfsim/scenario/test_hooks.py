"""Hooks that scenarios can name: keys, did-you-mean, positions, and that what runs is what was said."""

from typing import TYPE_CHECKING

import pytest

from ebpfsim.errors import EbpfSimError, ScenarioError
from ebpfsim.scenario.hooks import HOOKS, LATER_HOOKS, VERDICTS

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Play

SCENARIO = """\
hosts: {{h: {{interfaces: {{eth0: {{address: 10.0.0.1/24}}}}}}}}
objects:
  p: {{host: h, type: {type}, asm: "r0 = {code}; exit"}}
  q: {{host: h, type: {type}, asm: "r0 = {code}; exit"}}
sockets: {{s: {{host: h, udp: "127.0.0.1:9", cgroup: /web}}}}
attach: [{attach}]
events: [{{at: 1us, socket: s, to: "127.0.0.1:9", data: x, count: 3}}]
"""


def test_no_hook_is_both_there_and_to_come() -> None:
    assert not set(HOOKS) & set(LATER_HOOKS)
    assert {"XDP_DROP", "TCX_DROP", "TC_ACT_SHOT", "deny"} <= set(VERDICTS)


WRONG = [
    ("{program: p, hook: tcx_ingres, device: lo}", "unknown hook 'tcx_ingres'; did you mean 'tcx_ingress'?"),
    ("{program: p, hook: tc_ingress}", "hook 'tc_ingress' needs the key 'device'"),
    ("{program: p, hook: cgroup}", "hook 'cgroup' needs the key 'cgroup'"),
    ("{program: p, hook: tc_ingress, device: eth0, before: x}", "key 'before' does not belong to hook 'tc_ingress'"),
    ("{program: p, hook: tcx_egress, device: eth0, before: x}", "unknown link 'x'"),
    ("{program: p, hook: xdp, device: eth0, pref: 1}", "key 'pref' does not belong to hook 'xdp'"),
]


@pytest.mark.parametrize(("attach", "problem"), WRONG)
def test_mistakes(play: "Play", tmp_path: "Path", attach: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as wrong:
        play(SCENARIO.format(type="xdp", code=2, attach=attach), tmp_path)
    assert problem in str(wrong.value)
    assert ".yaml:6:" in str(wrong.value)


@pytest.mark.parametrize(
    ("attach", "kind", "code", "verdicts", "received"),
    [
        ("{id: x, program: p, hook: tcx_ingress, device: lo}", "sched_cls", 2, {"TCX_DROP": 3}, 0),
        ("{id: x, program: p, hook: tcx_egress, device: lo}", "sched_cls", -1, {"TCX_NEXT": 3}, 3),
        ("{id: x, program: p, hook: tc_ingress, device: lo, pref: 7}", "sched_cls", 0, {"TC_ACT_OK": 3}, 3),
        ("{id: x, program: p, hook: tc_egress, device: lo, protocol: arp}", "sched_cls", 2, {}, 3),
        ("{id: x, program: p, hook: cgroup, cgroup: /}", "cgroup_skb", 1, {"allow": 3}, 3),
        ("{id: x, program: p, hook: cgroup, cgroup: /other}", "cgroup_skb", 0, {}, 3),
    ],
)
def test_what_was_attached_runs(
    play: "Play", tmp_path: "Path", attach: str, kind: str, code: int, verdicts: dict[str, int], received: int
) -> None:
    running, _ = play(SCENARIO.format(type=kind, code=code, attach=attach), tmp_path)
    assert running.attachments["x"].verdicts == verdicts
    assert len(running.sockets["s"].received) == received


def test_order(play: "Play", tmp_path: "Path") -> None:
    attach = """
      {id: second, program: p, hook: tcx_ingress, device: lo},
      {id: first, program: q, hook: tcx_ingress, device: lo, before: second}
    """
    running, _ = play(SCENARIO.format(type="sched_cls", code=-1, attach=attach), tmp_path)
    assert [run.link for run in running.sim.recorder.runs][:2] == ["first", "second"]


REPLACE = """\
hosts: {h: {interfaces: {eth0: {address: 10.0.0.1/24}}}}
objects:
  p: {host: h, type: xdp, asm: "r0 = 2; exit"}
  q: {host: h, type: xdp, asm: "r0 = 1; exit"}
attach: [{id: x, program: p, hook: xdp, device: lo}]
events:
  - {at: 1us, attach: {id: y, program: q, hook: xdp, device: lo, replace: x, %s}}
"""


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("old: p", ""),
        # the program that is there is not the expected one (bpf_xdp_link_update)
        ("old: q, refused: EPERM", ""),
        ("old: q", "EPERM"),
        ("old: p, refused: EPERM", "the kernel attached 'q', expected EPERM"),
        ("old: r", "unknown object 'r'"),
        ("old: p, refused: EPERN", "unknown errno 'EPERN'"),
    ],
)
def test_replacement_of_what_is_expected(play: "Play", tmp_path: "Path", keys: str, problem: str) -> None:
    if problem:
        with pytest.raises(EbpfSimError, match=problem):
            play(REPLACE % keys, tmp_path)
        return
    running, _ = play(REPLACE % keys, tmp_path)
    assert ("y" in running.attachments) == ("refused" not in keys)
