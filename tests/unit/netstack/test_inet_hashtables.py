"""Who may have which port (ip(7), tcp(7), socket(7)); which connection a segment belongs to."""

from typing import Any

import pytest

import ebpfsim
from ebpfsim.errors import KernelError
from netstack.tcp import tcp_socket
from netstack.tcp_states import TcpState

ANY, A, B = 0, 0x0A000001, 0x0A000002


@pytest.fixture
def net() -> Any:
    host = ebpfsim.Simulation(seed=1).host("h")
    host.nic("eth0", ["10.0.0.1/24", "10.0.0.2/24"])
    return host.net


def sock(net: Any, address: int = ANY, port: int = 0, **options: bool) -> Any:
    tp = tcp_socket(net, net.cpus[0])
    for name, value in options.items():
        setattr(tp, name, value)
    net.tcp.get_port(tp, address, port)
    return tp


def listening(net: Any, tp: Any) -> Any:
    assert net.functions.inet_csk_listen_start(net.cpus[0], tp) == 0
    return tp


@pytest.mark.parametrize(("first", "second", "fits"), [(ANY, ANY, False), (A, ANY, False), (A, B, True), (A, A, False)])
def test_one_owner_for_an_address_and_a_port(net: Any, first: int, second: int, fits: bool) -> None:
    sock(net, first, 80)
    if fits:
        assert sock(net, second, 80).port == 80
    else:
        with pytest.raises(KernelError, match="EADDRINUSE"):
            sock(net, second, 80)


def test_reuseaddr_shares_with_who_does_not_listen(net: Any) -> None:
    first = sock(net, ANY, 80, reuse=True)
    second = sock(net, ANY, 80, reuse=True)
    listening(net, first)
    assert net.functions.inet_csk_listen_start(net.cpus[0], second) < 0
    with pytest.raises(KernelError, match="EADDRINUSE"):
        sock(net, ANY, 80, reuse=True)


def test_reuseport_makes_a_group_of_listeners(net: Any) -> None:
    first, second = (listening(net, sock(net, ANY, 80, reuseport=True)) for _ in range(2))
    assert first.reuseport_group is second.reuseport_group
    assert first.reuseport_group.socks == [first, second]
    net.functions.tcp_close(net.cpus[0], first, 0)
    assert second.reuseport_group.socks == [second]


def test_free_ports_are_odd_for_bind_and_even_for_connect(net: Any) -> None:
    # inet_csk_get_port() and __inet_hash_connect(): each begins with its own half
    assert [sock(net).port % 2 for _ in range(3)] == [1, 1, 1]
    tp = tcp_socket(net, net.cpus[0])
    tp.address = A
    net.tcp.connect_port(tp, (B, 80))
    assert tp.port % 2 == 0
    assert net.tcp.established[B, 80, A, tp.port] is tp


def test_a_bound_port_and_a_peer_are_one_connection(net: Any) -> None:
    first, second = sock(net, A, 5000, reuse=True), sock(net, A, 5000, reuse=True)
    net.tcp.connect_port(first, (B, 80))
    net.tcp.connect_port(second, (B, 81))
    with pytest.raises(KernelError, match="EADDRNOTAVAIL"):
        net.tcp.connect_port(second, (B, 80))


def test_the_listener_with_the_address_comes_first(net: Any) -> None:
    wide, narrow = listening(net, sock(net, ANY, 80, reuseport=True)), listening(net, sock(net, A, 80, reuseport=True))
    assert net.tcp.lookup_listener(A, 80) is narrow
    assert net.tcp.lookup_listener(B, 80) is wide
    assert net.tcp.lookup_listener(A, 81) is None
    assert net.tcp.listeners() == [wide, narrow]
    assert wide.state == TcpState.LISTEN


def test_sequence_numbers_go_on_with_the_clock(net: Any) -> None:
    # RFC 6528: a secret function of the ends, and a clock
    ends = (A, 1, B, 2)
    first, offset = net.tcp.secure_seq_and_ts_off(ends, 0)
    later, same = net.tcp.secure_seq_and_ts_off(ends, 64_000)
    assert (later - first & 0xFFFF_FFFF, same) == (1000, offset)
    assert net.tcp.secure_seq_and_ts_off((A, 1, B, 3), 0)[0] != first
