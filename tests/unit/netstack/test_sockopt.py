"""Options of TCP sockets: what is set is read (tcp(7), socket(7), ip(7)); ``struct tcp_info``."""

from typing import Any

import pytest

import ebpfsim
from ebpfsim.btf.view import place
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from netstack.sockopt import get_tcp_option, set_tcp_option, tcp_info
from netstack.tcp import tcp_socket

SOCKET, IP, TCP = 1, 0, 6


@pytest.fixture
def tp() -> Any:
    net = ebpfsim.Simulation(seed=1).host("h").net
    return tcp_socket(net, net.cpus[0])


def put(tp: Any, level: int, name: int, value: int) -> int:
    return set_tcp_option(tp.net.cpus[0], tp, level, name, value.to_bytes(4, "little", signed=True))


def get(tp: Any, level: int, name: int) -> int:
    found = get_tcp_option(tp, level, name, tp.net.cpus[0])
    assert isinstance(found, bytes), found
    return int.from_bytes(found, "little")


@pytest.mark.parametrize(
    ("level", "name", "value", "read"),
    [(SOCKET, 2, 1, 1), (SOCKET, 15, 1, 1), (SOCKET, 9, 1, 1), (SOCKET, 7, 20000, 40000), (SOCKET, 8, 20000, 40000),
     (SOCKET, 8, 1, 2304), (SOCKET, 7, 1, 4608), (SOCKET, 7, 10**8, 2 * 4194304), (SOCKET, 18, 100, 100),
     (SOCKET, 36, 77, 77), (IP, 1, 0x13, 0x10), (IP, 2, 9, 9), (TCP, 1, 1, 1), (TCP, 3, 1, 1), (TCP, 2, 1000, 1000),
     (TCP, 4, 60, 60), (TCP, 5, 7, 7), (TCP, 6, 3, 3), (TCP, 7, 2, 2), (TCP, 18, 5000, 5000), (TCP, 10, 30000, 30000),
     (TCP, 25, 4096, 4096)],
)  # fmt: skip
def test_set_and_read(tp: Any, level: int, name: int, value: int, read: int) -> None:
    assert put(tp, level, name, value) == 0
    assert get(tp, level, name) == read


@pytest.mark.parametrize(
    ("level", "name", "value", "errno"),
    [(TCP, 2, 87, Errno.EINVAL), (TCP, 2, 32768, Errno.EINVAL), (TCP, 4, 0, Errno.EINVAL),
     (TCP, 4, 32768, Errno.EINVAL), (TCP, 6, 128, Errno.EINVAL), (TCP, 18, -1, Errno.EINVAL),
     (IP, 2, 256, Errno.EINVAL), (41, 1, 1, Errno.ENOPROTOOPT)],
)  # fmt: skip
def test_values_that_are_refused(tp: Any, level: int, name: int, value: int, errno: int) -> None:
    assert put(tp, level, name, value) == -errno


def test_defaults(tp: Any) -> None:
    # tcp(7)
    assert [get(tp, TCP, name) for name in (4, 5, 6, 7)] == [7200, 75, 9, 6]
    assert get(tp, IP, 2) == 64


def test_congestion_control_by_name(tp: Any) -> None:
    cpu = tp.net.cpus[0]
    assert set_tcp_option(cpu, tp, TCP, 13, b"reno\0") == 0
    assert get_tcp_option(tp, TCP, 13, cpu) == b"reno".ljust(16, b"\0")
    assert set_tcp_option(cpu, tp, TCP, 13, b"vegas") == -Errno.ENOENT


def test_linger(tp: Any) -> None:
    cpu = tp.net.cpus[0]
    assert set_tcp_option(cpu, tp, SOCKET, 13, (1).to_bytes(4, "little") + (5).to_bytes(4, "little")) == 0
    assert tp.linger_ns == 5 * 10**9
    assert set_tcp_option(cpu, tp, SOCKET, 13, b"\1") == -Errno.EINVAL


def test_what_is_not_modelled_says_so(tp: Any) -> None:
    with pytest.raises(NotModelled, match="option 23 of level 6"):
        put(tp, TCP, 23, 1)


def test_tcp_info(tp: Any) -> None:
    info = tcp_info(tp, tp.net.cpus[0])
    assert len(info) == 280 or len(info) >= 248
    for name, value in (("tcpi_state", 7), ("tcpi_snd_cwnd", 10), ("tcpi_rto", 1_000_000), ("tcpi_snd_mss", 536)):
        offset, size = place("tcp_info", name)
        assert int.from_bytes(info[offset : offset + size], "little") == value
