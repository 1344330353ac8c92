"""Binding and listening as functions of the stack, which programs can watch."""

from typing import Any

import pytest

import ebpfsim
from ebpfsim.errnos import Errno
from netstack.tcp import tcp_socket
from netstack.tcp_states import TcpState


@pytest.fixture
def net() -> Any:
    host = ebpfsim.Simulation(seed=1).host("h")
    host.nic("eth0", "10.0.0.1/24")
    return host.net


def test_bind_and_listen(net: Any) -> None:
    cpu, functions = net.cpus[0], net.functions
    first, second = tcp_socket(net, cpu), tcp_socket(net, cpu)
    assert functions.inet_csk_get_port(cpu, first, 80) == 0
    assert functions.inet_csk_get_port(cpu, second, 80) == 1
    assert functions.__dict__["__inet_listen_sk"](cpu, first, 7) == 0
    assert (first.state, first.max_ack_backlog) == (TcpState.LISTEN, 7)
    # again: only the length of the queue
    assert functions.__dict__["__inet_listen_sk"](cpu, first, 9) == 0
    assert first.max_ack_backlog == 9
    first.state = TcpState.SYN_SENT
    assert functions.__dict__["__inet_listen_sk"](cpu, first, 9) == -Errno.EINVAL


def test_programs_see_who_listens(net: Any) -> None:
    cpu, seen = net.cpus[0], []
    original = net.functions.inet_csk_listen_start
    net.functions.__dict__["inet_csk_listen_start"] = lambda cpu, tp: (seen.append(tp), original(cpu, tp))[1]
    tp = tcp_socket(net, cpu)
    net.functions.__dict__["__inet_listen_sk"](cpu, tp, 1)
    assert seen == [tp]
    # without a port it gets a free one
    assert tp.port
