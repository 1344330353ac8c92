"""The list of congestion control algorithms (net/ipv4/tcp_cong.c, v6.18); texts as Linux logs them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

import ebpfsim
from ebpfsim.clock import Clock
from ebpfsim.config import KernelConfig
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.recorder import Recorder
from netstack.headers import parse_ip
from netstack.sockopt import IPPROTO_TCP, TCP_CONGESTION, set_tcp_option
from netstack.tcp import tcp_socket
from netstack.tcp_cong import CongestionOps, TcpCongestion
from netstack.tcp_flow import BulkFlow


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


OBJECTS = Path(__file__).resolve().parents[3] / "scenarios" / "bpf"


class Lab:
    """Two hosts; ``trace`` is (time, cwnd, ssthresh) after each segment that the sender got."""

    def __init__(self, name: str = "reno", *, in_bpf: bool = True) -> None:
        self.sim = ebpfsim.Simulation(seed=3, record=False)
        self.a, self.b = self.sim.host("a"), self.sim.host("b")
        nics = self.a.nic("eth0", "10.0.0.1/24"), self.b.nic("eth0", "10.0.0.2/24")
        self.sim.link(*nics, rate="20Mbit", delay="10ms", loss=0.002)
        self.obj = self.a.open(str(OBJECTS / f"{name}.bpf.o"))
        if in_bpf:
            if "again" in self.obj.maps:
                self.obj.maps["again"].autocreate = True
            self.obj.load()
            self.link = self.a.attach_struct_ops(self.obj.struct_ops[name])
        self.trace: list[tuple[int, int, int]] = []
        tcp_ack = self.a.net.functions.tcp_ack

        def traced(cpu, tp, skb, flag):
            result = tcp_ack(cpu, tp, skb, flag)
            self.trace.append((self.sim.now_ns, tp.snd_cwnd, tp.snd_ssthresh))
            return result

        self.a.net.functions.__dict__["tcp_ack"] = traced

    def flow(self, congestion: str, size: int | None, port: int = 5001, **more) -> BulkFlow:
        return BulkFlow(self.a.net, self.b.net, parse_ip("10.0.0.2"), port, size, congestion=congestion, **more)


def same_traces(name: str, seconds: int) -> None:
    ours, theirs = Lab(name, in_bpf=False), Lab(name)
    flows = ours.flow(name, None), theirs.flow(f"bpf_{name}", None)
    ours.sim.run(f"{seconds}s")
    theirs.sim.run(f"{seconds}s")
    assert all(flow.good for flow in flows)
    assert flows[0].retransmits >= seconds
    assert len(ours.trace) > 300 * seconds
    # every sample, and when it was taken
    assert ours.trace == theirs.trace


@pytest.mark.parametrize("name", ["reno", "cubic"])
def test_programs_do_what_the_algorithm_of_the_kernel_does(name: str) -> None:
    same_traces(name, 1)


@pytest.mark.long
@pytest.mark.parametrize("name", ["reno", "cubic"])
def test_programs_do_what_the_algorithm_of_the_kernel_does_for_a_minute(name: str) -> None:
    same_traces(name, 60)


def test_an_algorithm_is_replaced_while_connections_run() -> None:
    lab = Lab()
    flow, late = lab.flow("bpf_reno", 2_000_000), lab.flow("bpf_reno", 100_000, 5002, start_ns=600_000_000)
    old = lab.a.net.tcp_cong.find("bpf_reno")
    lab.sim.clock.call_at(500_000_000, lambda: lab.link.replace(lab.obj.struct_ops["again"]))
    lab.sim.run("400ms")
    assert 0 < flow.received < 1_500_000
    lab.sim.run("5s")
    assert flow.ended
    assert late.ended
    # not a byte is lost
    assert flow.good
    assert late.good
    new = lab.a.net.tcp_cong.find("bpf_reno")
    assert new is not old


def test_a_name_that_is_gone() -> None:
    lab = Lab()
    flow = lab.flow("bpf_reno", 1_000_000)
    lab.sim.run("200ms")
    lab.link.close()
    # who has it keeps it
    lab.sim.run("5s")
    assert flow.ended
    assert lab.a.net.tcp_cong.available == ["reno", "cubic"]
    tp = tcp_socket(lab.a.net, lab.a.net.cpus[0])
    assert set_tcp_option(lab.a.net.cpus[0], tp, IPPROTO_TCP, TCP_CONGESTION, b"bpf_reno") == -Errno.ENOENT
