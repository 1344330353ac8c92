"""Disciplines of scenarios."""

from pathlib import Path

import pytest

from ebpfsim.errors import InputError
from ebpfsim.scenario.check import check_scenario
from ebpfsim.scenario.load import parse_scenario
from ebpfsim.scenario.run import build
from netstack.qdisc import Netem, Tbf
from netstack.qdisc_add import KINDS, make_qdisc
from netstack.qdisc_fair import Htb

TEXT = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24, qdisc: QDISC}}}
  b: {interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0]}]
"""


def built(qdisc: str):
    checked = check_scenario(parse_scenario(TEXT.replace("QDISC", qdisc).encode(), "x.yaml", Path()))
    return build(checked).sim.hosts["a"].device("eth0").root_qdisc


def test_options_have_units() -> None:
    netem = built("{kind: netem, delay: 10ms, jitter: 1ms, loss: 5%}")
    assert isinstance(netem, Netem)
    assert (netem.delay_ns, netem.jitter_ns, netem.loss) == (10_000_000, 1_000_000, 0.05)
    tbf = built("{kind: tbf, rate: 1Mbit, burst: 1600, limit: 3000}")
    assert isinstance(tbf, Tbf)
    assert tbf.rate_bps == 10**6


def test_classes_of_htb() -> None:
    htb = built("{kind: htb, default: 2, classes: {1: {rate: 1Mbit}, 2: {rate: 500kbit, ceil: 1Mbit, parent: 1}}}")
    assert isinstance(htb, Htb)
    assert (htb.default, htb.classes[2].ceil_bps, htb.classes[1].ceil_bps) == (2, 10**6, 10**6)


def test_a_kind_that_there_is_not() -> None:
    with pytest.raises(InputError, match="qdisc 'red' is not modelled"):
        built("{kind: red}")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"tbf", "htb"}))
def test_every_kind_needs_no_options(lab, kind) -> None:
    dev = lab.pair()[0].devices["eth0"]
    qdisc = make_qdisc(dev, kind, {})
    assert (qdisc.dev, qdisc.stats.qlen) == (dev, 0)
