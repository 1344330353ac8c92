"""Windows to begin with, as Linux 6.18 offers them on Ethernet (tcpdump: win 64240 and 65160, wscale 7 and 10)."""

from typing import Any

import pytest

import ebpfsim
from netstack.tcp import tcp_socket
from netstack.tcp_window import measure_rcv_mss, select_initial_window, sndbuf_expand, tcp_space


def sock(**sysctl: Any) -> Any:
    net = ebpfsim.Simulation(seed=1).host("h", sysctl={f"net.ipv4.{name}": value for name, value in sysctl.items()}).net
    return tcp_socket(net, net.cpus[0])


@pytest.mark.parametrize(("mss", "window"), [(1460, 64240), (1448, 65160), (536, 65392), (8948, 62636)])
def test_the_first_window_is_whole_segments_below_64_kib(mss: int, window: int) -> None:
    assert select_initial_window(sock(), mss, True, 0)[0] == window


def test_the_scale_has_room_for_the_largest_buffer() -> None:
    assert select_initial_window(sock(), 1460, True, 0)[2] == 10
    assert select_initial_window(sock(tcp_rmem="4096 131072 6291456"), 1460, True, 0)[2] == 7
    assert select_initial_window(sock(), 1460, False, 0)[1:] == (65535, 0)


def test_programs_may_choose_fewer_segments() -> None:
    assert select_initial_window(sock(), 1000, True, 4)[0] == 4000


def test_what_is_queued_takes_from_the_window() -> None:
    tp = sock()
    before = tcp_space(tp)
    tp.sk_rmem_alloc += 4096
    assert before - tcp_space(tp) == 2048


def test_the_peers_segments_are_learned() -> None:
    tp = sock()
    tp.advmss, tp.ack_rcv_mss = 1448, 536
    measure_rcv_mss(tp, 1448, 1448, 2304, False)
    assert (tp.ack_rcv_mss, tp.scaling_ratio) == (1448, 1448 * 256 // 2304)


def test_segments_that_came_as_one_packet_are_learned_one_by_one() -> None:
    tp = sock()
    tp.advmss, tp.ack_rcv_mss = 1448, 536
    measure_rcv_mss(tp, 1448, 3 * 1448, 2304 + 2 * 2048, False)
    assert (tp.ack_rcv_mss, tp.scaling_ratio) == (1448, 3 * 1448 * 256 // 6400)


def test_the_send_buffer_holds_two_windows() -> None:
    tp = sock()
    sndbuf_expand(tp)
    first = tp.sk_sndbuf
    tp.snd_cwnd = 20
    sndbuf_expand(tp)
    assert tp.sk_sndbuf == 2 * first
