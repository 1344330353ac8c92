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


NETKIT = """\
hosts:
  h:
    namespaces: [pod]
    devices: {{nk: {{type: netkit, peer: pod/eth0, address: 10.0.0.1/24, peer_address: 10.0.0.2/24}}}}
objects: {{p: {{host: h, type: {type}, asm: "r0 = {code}; exit"}}}}
sockets: {{s: {{host: h, udp: "10.0.0.1:9"}}}}
attach: [{attach}]
events: [{{at: 1us, socket: s, to: "10.0.0.2:9", data: x, count: 3}}]
"""


@pytest.mark.parametrize(
    ("hook", "code", "verdicts"),
    [
        ("netkit", 2, {"NETKIT_DROP": 3}),
        ("netkit_primary", -1, {"NETKIT_NEXT": 3}),
        # what the pod answers: nobody listens there
        ("netkit_peer", 0, {"NETKIT_PASS": 3}),
    ],
)
def test_both_ends_of_a_netkit_pair(play: "Play", hook: str, code: int, verdicts: dict[str, int]) -> None:
    attach = f"{{id: x, program: p, hook: {hook}, device: nk}}"
    running, _ = play(NETKIT.format(type="sched_cls", code=code, attach=attach))
    assert running.attachments["x"].verdicts == verdicts


@pytest.mark.parametrize(
    ("kind", "attach", "problem"),
    [
        ("sched_cls", "{program: p, hook: netkit, device: lo}", "ENXIO"),
        ("sched_cls", "{program: p, hook: netkit, device: pod/eth0}", "EACCES"),
        ("xdp", "{program: p, hook: sock_ops, cgroup: /}", "EINVAL"),
    ],
)
def test_places_that_the_kernel_refuses(play: "Play", kind: str, attach: str, problem: str) -> None:
    with pytest.raises(EbpfSimError, match=problem) as wrong:
        play(NETKIT.format(type=kind, code=1, attach=attach))
    assert wrong.value.at.startswith("x.yaml:7:")


def test_sock_ops_are_told_of_flows(play: "Play") -> None:
    text = """\
hosts: {h: {}}
objects: {p: {host: h, type: sock_ops, asm: "r0 = 1; exit"}}
attach: [{id: x, program: p, hook: sock_ops, cgroup: /}]
events: [{at: 1us, host: h, flow: f, to: "127.0.0.1:9", bytes: 10}]
expect: [{flow: f, received: 10}]
"""
    running, results = play(text)
    assert [result.met for result in results] == [True, True]
    # LISTEN; TIMEOUT_INIT, RWND_INIT, TCP_CONNECT, NEEDS_ECN; for the SYN the same and RWND_INIT; both established
    assert running.attachments["x"].verdicts == {"allow": running.attachments["x"].runs}
    assert running.attachments["x"].runs >= 9
