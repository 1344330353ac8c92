"""The words of tc(8) and libbpf on a host: what they refuse before the kernel hears of it."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InputError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType


@pytest.fixture
def host():
    return Simulation().host("h")


@pytest.fixture
def prog(host):
    return host.prog(host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble("r0 = 0; exit"))).fd)


@pytest.mark.parametrize(
    ("call", "args", "text"),
    [
        ("attach_tcx", ("lo", "ingres"), "direction 'ingres' is not known; did you mean 'ingress'?"),
        ("tc_qdisc_add", ("lo", "fq"), "qdisc 'fq' is not modelled"),
    ],
)
def test_words(host, prog, call, args, text) -> None:
    with pytest.raises(InputError, match=text.replace("?", r"\?")):
        getattr(host, call)(*((prog, *args) if call.startswith("attach") else args))


def test_words_of_filters(host, prog) -> None:
    host.tc_qdisc_add("lo")
    with pytest.raises(InputError, match="protocol 'ipp' is not known; did you mean 'ip'"):
        host.tc_filter_add("lo", "ingress", prog, protocol="ipp")
    with pytest.raises(InputError, match="action 'pip' is not known; did you mean 'pip"):
        host.tc_filter_add("lo", "ingress", prog, actions=[(prog, "pip")])
    with pytest.raises(InputError, match="direction 'in'"):
        host.tc_filter_add("lo", "in", prog)


def test_a_link_is_before_or_after(host, prog) -> None:
    link = host.attach_tcx(prog, "lo")
    with pytest.raises(InputError, match="not both"):
        host.attach_tcx(prog, "lo", before=link, after=link)


def test_attach_tc_makes_the_qdisc(host, prog) -> None:
    each = host.attach_tc(prog, "lo", "egress")
    assert host.device("lo").qdisc.kind == "clsact"
    assert each.info() | {"prog_id": 0} == {
        "pref": 49152, "handle": 1, "protocol": 3, "chain": 0, "direct_action": True, "classid": 0, "prog_id": 0,
    }  # fmt: skip
    each.detach()
    each.detach()
    assert host.tc_filter_show("lo", "egress") == []
