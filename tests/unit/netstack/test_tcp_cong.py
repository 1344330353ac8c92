"""The list of congestion control algorithms (net/ipv4/tcp_cong.c, v6.18); texts as Linux logs them."""

from types import SimpleNamespace

import pytest

from ebpfsim.clock import Clock
from ebpfsim.config import KernelConfig
from ebpfsim.errors import KernelError
from ebpfsim.recorder import Recorder
from netstack.tcp_cong import CongestionOps, TcpCongestion


@pytest.fixture
def congestion():
    return TcpCongestion(SimpleNamespace(name="h", clock=Clock(), recorder=Recorder(), config=KernelConfig()))


@pytest.fixture
def refused(congestion):
    """Make a call that must be refused; return the errno and the line in the log."""

    def ask(call, *args) -> tuple[str, str]:
        with pytest.raises(KernelError) as error:
            call(*args)
        return error.value.errno_name, congestion.kernel.recorder.notes[-1].text

    return ask


def test_those_of_the_kernel(congestion) -> None:
    assert congestion.available == ["reno", "cubic"]
    assert congestion.default == "cubic"
    # a module that is loaded when somebody asks for it
    assert congestion.find("dctcp") is None
    assert congestion.assign("dctcp").needs_ecn
    assert congestion.available == ["reno", "cubic", "dctcp"]
    congestion.find("cubic").put()
    with pytest.raises(KernelError, match=r"ENOENT.*no congestion control 'bbr'"):
        congestion.assign("bbr")


def test_names_are_unique(congestion, refused) -> None:
    mine = CongestionOps("bpf_mine")
    congestion.register(mine)
    assert refused(congestion.register, CongestionOps("bpf_mine")) == (
        "EEXIST",
        "TCP: bpf_mine already registered or non-unique key",
    )
    congestion.unregister(mine)
    congestion.register(CongestionOps("bpf_mine"))


@pytest.mark.parametrize("members", [(), ("ssthresh", "undo_cwnd"), ("ssthresh", "cong_avoid", "cong_control")])
def test_functions_that_all_must_have(congestion, refused, members) -> None:
    assert refused(congestion.validate, "x", members) == ("EINVAL", "TCP: x does not implement required ops")
    congestion.validate("x", ("ssthresh", "undo_cwnd", "cong_control"))


def test_update_goes_to_the_end_of_the_list(congestion, refused) -> None:
    old, new, other = CongestionOps("a"), CongestionOps("a"), CongestionOps("b")
    congestion.register(old)
    congestion.register(other)
    congestion.update(new, old)
    assert congestion.available == ["reno", "cubic", "b", "a"]
    assert congestion.find("a") is new
    update = congestion.update
    assert refused(update, CongestionOps("c"), other) == ("EINVAL", "TCP: c not registered or non-unique key")
    text = "TCP: invalid old congestion control algorithm to replace"
    assert refused(update, CongestionOps("a"), old) == ("EINVAL", text)
