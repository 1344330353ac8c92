"""clsact, ingress and cls_bpf: order and refusals, as Linux 6.18 answered by netlink in a namespace of its own."""

from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from hooks.tc import ClsBpf, MiniQdisc, TcAct, tc_act_name, tcf_classify

NOT_FOUND = "ENOENT: Filter with specified priority/protocol not found"
MISMATCH = "EINVAL: Protocol mismatch for filter with specified priority"
FLUSH = "ENOENT: Cannot flush filters with protocol, handle or kind set"


@pytest.fixture
def host() -> Any:
    return Simulation().host("h")


@pytest.fixture
def load(host: Any) -> Any:
    def load(kind: ProgType = ProgType.SCHED_CLS) -> Any:
        return host.prog(host.bpf.prog_load(kind, encode(assemble("r0 = 0; exit"))).fd)

    return load


def said(call: Any, *args: Any, **more: Any) -> str:
    try:
        call(*args, **more)
    except KernelError as error:
        return f"{error.errno_name}: {error.detail}" if error.detail else error.errno_name
    return "ok"


def test_qdiscs(host: Any, load: Any) -> None:
    """Adding, adding again, the other kind, deleting what is not there and what is of another kind."""
    assert said(host.tc_filter_add, "lo", "ingress", load()) == "EINVAL: Parent Qdisc doesn't exists"
    assert said(host.tc_qdisc_del, "lo") == "ENOENT: Cannot find specified qdisc on specified device"
    assert said(host.tc_qdisc_add, "lo", "clsact") == "ok"
    assert said(host.tc_qdisc_add, "lo", "clsact") == "EEXIST: Exclusivity flag on, cannot modify"
    assert said(host.tc_qdisc_add, "lo", "ingress") == "EEXIST: Exclusivity flag on, cannot modify"
    assert said(host.tc_qdisc_del, "lo", "ingress") == "EINVAL: Invalid qdisc name: must match existing qdisc"
    assert said(host.tc_qdisc_del, "lo", "clsact") == "ok"


def test_an_ingress_qdisc_takes_both_names(host: Any, load: Any) -> None:
    host.tc_qdisc_add("lo", "ingress")
    host.tc_filter_add("lo", "egress", load(), pref=1)
    assert len(host.tc_filter_show("lo", "ingress")) == 1


def test_priorities_that_are_not_given_come_first(host: Any, load: Any) -> None:
    """Linux: pref 49152, then 49151; under one priority the newest handle first."""
    host.tc_qdisc_add("lo")
    assert [host.tc_filter_add("lo", "ingress", load()).pref for _ in range(2)] == [49152, 49151]
    for handle in (1, 0, 7):
        host.tc_filter_add("lo", "ingress", load(), pref=5, handle=handle)
    found = [(each.pref, each.handle) for each in host.tc_filter_show("lo", "ingress")]
    assert found == [(5, 7), (5, 2), (5, 1), (49151, 1), (49152, 1)]


def test_refusals(host: Any, load: Any) -> None:
    host.tc_qdisc_add("lo")
    add, delete = host.tc_filter_add, host.tc_filter_del
    add("lo", "ingress", load(), pref=9)
    assert said(add, "lo", "ingress", load(), pref=5, handle=1) == "ok"
    assert said(add, "lo", "ingress", load(), pref=5, handle=1) == "EEXIST: Filter already exists"
    assert said(host.tc_filter_replace, "lo", "ingress", load(), pref=5, handle=1) == "ok"
    assert said(add, "lo", "ingress", load(), pref=5, handle=2, protocol="ip") == MISMATCH
    assert said(add, "lo", "ingress", load(ProgType.SCHED_ACT), pref=8).startswith("EINVAL")
    assert said(delete, "lo", "ingress", pref=77) == NOT_FOUND
    assert said(delete, "lo", "ingress", pref=5, handle=99) == "ENOENT: Specified filter handle not found"
    assert said(delete, "lo", "ingress", pref=5, handle=1, protocol="ip") == MISMATCH
    assert said(delete, "lo", "ingress", handle=1) == FLUSH
    assert said(delete, "lo", "ingress", protocol="all") == FLUSH
    assert said(delete, "lo", "ingress", pref=1, chain=4) == "ENOENT: Cannot find specified filter chain"
    assert said(delete, "lo", "ingress", chain=4) == "ok"
    assert said(delete, "lo", "ingress", pref=5) == "ok"
    assert said(delete, "lo", "ingress", pref=5) == NOT_FOUND
    assert said(delete, "lo", "ingress") == "ok"
    assert said(delete, "lo", "ingress") == "ok"
    assert said(delete, "lo", "egress", pref=3) == "ENOENT: Cannot find specified filter chain"


def test_change_without_create(host: Any, load: Any) -> None:
    """``tc filter change`` of what is not there: ENOENT, as Linux said of a handle and of a priority."""
    qdisc = host.tc_qdisc_add("lo")
    host.tc_filter_add("lo", "ingress", load(), pref=5, handle=1)
    for pref, handle in ((5, 9), (6, 9)):
        answer = said(qdisc.add, "ingress", ClsBpf(load(), handle, pref), create=False, replace=True)
        assert answer == "ENOENT: Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter"


def test_references_are_given_back(host: Any, load: Any) -> None:
    one, two, action = load(), load(), load(ProgType.SCHED_ACT)
    before = [prog.refs for prog in (one, two, action)]
    host.tc_qdisc_add("lo")
    each = host.tc_filter_add("lo", "egress", one, actions=[action])
    assert (one.refs, action.refs) == (before[0] + 1, before[2] + 1)
    each.update(two)
    assert (one.refs, two.refs) == (before[0], before[1] + 1)
    host.tc_qdisc_del("lo")
    assert [prog.refs for prog in (one, two, action)] == before
    assert host.device("lo").tcx.egress is None


def test_notes(host: Any, load: Any) -> None:
    with host.attach_tc(load(), "lo", label="mine") as each:
        each.update(load())
    notes = [note for note in host.sim.recorder.notes if note.details.get("hook") == "tc_ingress"]
    assert [note.kind for note in notes] == ["attach", "update", "detach"]
    assert [note.details["order"] for note in notes] == ["1", "2", ""]


def test_a_loop_is_ended() -> None:
    """max_reclassify_loop, net/sched/cls_api.c: 16 rounds more, then TC_ACT_SHOT."""
    rounds = []

    def run(each: Any, _classid: int) -> tuple[int, int]:
        rounds.append(each)
        return -1, 0

    from hooks.tc import ActBpf, _Proto

    miniq, proto = MiniQdisc(), _Proto(1, 3)
    action = ActBpf(None, TcAct.RECLASSIFY)  # type: ignore[arg-type]
    proto.filters = [ClsBpf(None, 1, 1, direct_action=False, actions=(action,))]  # type: ignore[arg-type]
    miniq.chains[0] = [proto]
    verdict = tcf_classify(miniq, lambda: 0x800, run)
    assert (verdict.code, verdict.loop) == (TcAct.SHOT, True)
    assert rounds.count(action) == 17


def test_names() -> None:
    assert (tc_act_name(2), tc_act_name(-1), tc_act_name(100)) == ("TC_ACT_SHOT", "TC_ACT_UNSPEC", "100")
