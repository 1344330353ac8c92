"""Programs that are attached to functions of other programs: names, order of loading, mistakes."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.targets import FunctionTarget, load_order

if TYPE_CHECKING:
    from conftest import Play

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"
# the objects stand in the order in which they cannot be loaded
SCENARIO = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0]}]
objects:
  part: {host: b, file: components.bpf.o}
  watch: {host: b, file: watch_firewall.bpf.o}
  disp: {host: b, file: dispatcher.bpf.o}
  fw: {host: b, file: firewall.bpf.o}
  nop: {host: b, type: xdp, asm: "r0 = 2; exit"}
attach:
  - {id: main, program: disp/dispatcher, hook: xdp, device: eth0}
  - {id: slot0, program: part/count_ports, hook: freplace, target: disp/dispatcher/slot0}
  - {id: slot1, program: part/drop_telnet, hook: freplace, target: disp/slot1}
  - {id: watch, program: watch/packet_comes, hook: fentry, target: fw/firewall}
  - {id: judge, program: watch/packet_judged, hook: fexit, target: fw/firewall}
events:
  - {at: 1ms, host: a, device: eth0, count: 5, every: 10us, send: "Ether()/IP(src='10.0.0.9', dst='10.0.0.2')/UDP(dport=23)"}
  - {at: 2ms, detach: slot1}
  - {at: 3ms, attach: {id: again, program: part/drop_telnet, hook: freplace, target: disp/dispatcher/slot1}}
  - {at: 4ms, host: a, device: eth0, count: 2, every: 10us, send: "Ether()/IP(src='10.0.0.9', dst='10.0.0.2')/UDP(dport=23)"}
  - {at: 5ms, detach: again}
  - {at: 6ms, host: a, device: eth0, count: 3, every: 10us, send: "Ether()/IP(src='10.0.0.9', dst='10.0.0.2')/UDP(dport=23)"}
until: 7ms
expect:
  - {link: main, runs: 10, verdicts: {XDP_DROP: 7, XDP_PASS: 3}}
  - {map: part/ports, equals: {23: 10}}
"""  # noqa: E501


def test_components_come_go_and_come_again(play: "Play") -> None:
    running, results = play(SCENARIO, BPF)
    assert [result for result in results if not result.met] == []
    assert (
        running.attachments["watch"].link.info()["target_obj_id"]
        == running.sim.hosts["b"].prog(running.program_fd("fw/firewall")).id
    )


def test_targets_are_loaded_before_what_is_attached_to_them() -> None:
    targets = {("a", "p"): FunctionTarget("c", "q", "f"), ("c", "q"): FunctionTarget("b", "r", "f")}
    assert load_order(["a", "b", "c", "d"], targets) == ["b", "c", "a", "d"]


WRONG = [
    ("disp/dispatcher/slot0", "¦disp/dispatcher/slot7", "unknown function of 'disp/dispatcher': 'slot7'; did you mean"),
    ("disp/dispatcher/slot0", "¦part/slot7/x", "unknown program of 'part': 'slot7'"),
    ("disp/dispatcher/slot0", "¦dsip/dispatcher", "unknown object 'dsip'; did you mean 'disp'?"),
    ("disp/dispatcher/slot0", "¦nop", "program 'nop' is assembly, whose functions have no names"),
    ("disp/dispatcher/slot0", "¦part/drop_telnet", "the target is in object 'part' itself"),
    (", target: disp/dispatcher/slot0", "", "hook 'freplace' needs the key 'target'"),
    (
        "hook: fentry, target: fw/firewall",
        "hook: fentry, target: vfs_read",
        "was loaded for 'firewall', not for 'vfs_read'",
    ),
    ("disp: {host: b", "disp: {host: a", "is loaded on host 'b', its target on 'a'"),
    ("  - {link: main, runs: 10", "  - {link: ¦slot0, runs: 10", "nobody counts its runs"),
]


@pytest.mark.parametrize(("old", "new", "problem"), WRONG)
def test_mistakes(play: "Play", old: str, new: str, problem: str) -> None:
    assert old in SCENARIO
    head, _, tail = SCENARIO.partition(old)
    with pytest.raises(ScenarioError) as caught:
        play(head + new.replace("¦", "") + tail, BPF)
    assert problem in str(caught.value) or any(problem in str(error) for error in caught.value.others)
    if "¦" in new:
        before = head + new.partition("¦")[0]
        assert f"x.yaml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}:" in str(caught.value)


def test_nothing_says_what_is_replaced(play: "Play") -> None:
    text = SCENARIO.partition("attach:")[0]
    with pytest.raises(ScenarioError, match=r"x.yaml:6:3: error: nothing says which function 'part/drop_telnet'"):
        play(text, BPF)
