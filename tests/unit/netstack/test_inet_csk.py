"""The timers of a connection, and when every segment is acknowledged at once."""

from typing import Any

import pytest

import ebpfsim
from ebpfsim.btf.view import place
from netstack.inet_csk import (
    clear_retrans_timer,
    clear_xmit_timers,
    quick_ack_mode,
    reset_keepalive_timer,
    reset_retrans_timer,
)
from netstack.tcp import tcp_socket
from netstack.tcp_states import TIME_PROBE0, TIME_RETRANS


@pytest.fixture
def tp() -> Any:
    net = ebpfsim.Simulation(seed=1).host("h").net
    return tcp_socket(net, net.cpus[0])


def test_retransmission_and_probes_share_a_timer(tp: Any) -> None:
    cpu = tp.net.cpus[0]
    reset_retrans_timer(tp, TIME_RETRANS, 500, cpu)
    reset_retrans_timer(tp, TIME_PROBE0, 300, cpu)
    assert (tp.pending, tp.retransmit_timer.expires_ns) == (TIME_PROBE0, 300_000)
    clear_retrans_timer(tp)
    assert (tp.pending, tp.retransmit_timer.expires_ns) == (0, None)
    # TCP_RTO_MAX: two minutes
    reset_retrans_timer(tp, TIME_RETRANS, 10**9, cpu)
    assert tp.retransmit_timer.expires_ns == 120 * 10**9


def test_all_are_cleared_together(tp: Any) -> None:
    cpu = tp.net.cpus[0]
    reset_retrans_timer(tp, TIME_RETRANS, 500, cpu)
    reset_keepalive_timer(tp, 500, cpu)
    clear_xmit_timers(tp)
    assert tp.net.clock.waiting == 0


def test_their_structures_are_in_the_socket(tp: Any) -> None:
    offset = place("tcp_sock", "inet_conn.icsk_retransmit_timer")[0]
    assert tp.retransmit_timer.struct_address - tp.struct_address == offset


def test_quick_acks_end_when_the_connection_is_interactive(tp: Any) -> None:
    assert not quick_ack_mode(tp)
    tp.ack_quick = 2
    assert quick_ack_mode(tp)
    tp.ack_pingpong = 1
    assert not quick_ack_mode(tp)
