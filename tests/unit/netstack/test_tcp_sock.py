"""What a new socket is (tcp_init_sock, net/ipv4/tcp.c, v6.18)."""

from typing import Any

import pytest

import ebpfsim
from netstack.tcp import poll_mask, tcp_socket
from netstack.tcp_states import TcpState


@pytest.fixture
def tp() -> Any:
    net = ebpfsim.Simulation(seed=1).host("h").net
    return tcp_socket(net, net.cpus[0])


def test_a_new_socket(tp: Any) -> None:
    assert (tp.state, tp.snd_cwnd, tp.mss_cache, tp.reordering) == (TcpState.CLOSE, 10, 536, 3)
    assert (tp.rto_us, tp.snd_ssthresh, tp.sk_rcvbuf, tp.sk_sndbuf) == (1_000_000, 0x7FFF_FFFF, 131072, 16384)
    assert tp.ca_ops.name == "cubic"
    assert tp.in_flight == 0
    assert str(tp) == "<TcpSock h 0.0.0.0:0 CLOSE>"


def test_nothing_can_be_done_with_it_but_to_connect(tp: Any) -> None:
    # tcp_poll(): POLLHUP, and writable
    assert poll_mask(tp) & 16
    assert not tp.readable


def test_its_structure_comes_and_goes(tp: Any) -> None:
    first = tp.struct_address
    assert tp.placed == first
    tp.destruct()
    assert tp.net.tcp.structs.find(first) is None
