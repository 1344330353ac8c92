"""System calls of sockets: errnos that Linux 6.18 gave for the same calls, and the order in which 6.12 ran."""

from typing import Any

import pytest
from recordings import known, trees
from socket_machine import AF_INET, MSG_DONTWAIT, SOCK_DGRAM, Call, SocketMachine, sockaddr

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from netstack.marks import MARKS

SOL_SOCKET, SO_BROADCAST, SO_RCVTIMEO = 1, 6, 20
ANY, LOCAL = sockaddr("0.0.0.0", 0), sockaddr("127.0.0.1", 9)
FD = 3
# functions of routes and softirqs, which the way of packets calls
PACKETS = {*MARKS, "__local_bh_enable_ip", "fib_table_lookup", "__do_softirq", "handle_softirqs"}
PACKETS |= {"ip_route_output_flow", "ip_route_output_key_hash_rcu", "fib_select_path", "reuseport_has_conns_set"}
PACKETS |= {"skb_release_data"}


@pytest.fixture
def machine() -> SocketMachine:
    return SocketMachine()


def answer(machine: SocketMachine, name: str, *args: int | bytes, uid: int = 0) -> int:
    """Return what a call says to a task whose descriptor 3 is a new socket."""
    answers = []

    def what(_task: object, call: Call) -> None:
        assert call("socket", AF_INET, SOCK_DGRAM, 0) == FD
        answers.append(call(name, *args))

    machine.run(what, uid=uid)
    return answers[0]


# what libc's calls returned on Linux 6.18
@pytest.mark.parametrize(
    ("name", "args", "errno"),
    [("socket", (99, 2, 0), Errno.EAFNOSUPPORT), ("socket", (9, 2, 0), Errno.EAFNOSUPPORT),
     ("socket", (2, 12, 0), Errno.EINVAL), ("socket", (2, 2, 6), Errno.EPROTONOSUPPORT),
     ("socket", (2, 5, 0), Errno.ESOCKTNOSUPPORT), ("socket", (2, 2, -1), Errno.EINVAL),
     ("socket", (2, 2, 300), Errno.EINVAL), ("socket", (2, 0x102, 0), Errno.EINVAL),
     ("bind", (FD, ANY, 8), Errno.EINVAL), ("bind", (FD, sockaddr("0.0.0.0", 0, 10), 16), Errno.EAFNOSUPPORT),
     ("bind", (FD, sockaddr("0.0.0.0", 0, 0), 16), 0),
     ("bind", (FD, sockaddr("127.0.0.1", 0, 0), 16), Errno.EAFNOSUPPORT),
     ("bind", (FD, sockaddr("8.8.8.8", 0), 16), Errno.EADDRNOTAVAIL), ("bind", (FD, ANY, 200), Errno.EINVAL),
     ("bind", (FD, 1, 16), Errno.EFAULT), ("bind", (0, ANY, 16), Errno.ENOTSOCK), ("bind", (77, ANY, 16), Errno.EBADF),
     ("connect", (FD, LOCAL, 8), Errno.EINVAL), ("connect", (FD, LOCAL, 1), Errno.EINVAL),
     ("connect", (FD, sockaddr("127.0.0.1", 9, 10), 16), Errno.EAFNOSUPPORT),
     ("connect", (0, LOCAL, 16), Errno.ENOTSOCK), ("connect", (77, LOCAL, 16), Errno.EBADF),
     ("sendto", (FD, b"x", 1, 0, 0, 0), Errno.EDESTADDRREQ), ("sendto", (FD, b"x", 1, 0, LOCAL, 8), Errno.EINVAL),
     ("sendto", (FD, b"x", 1, 0, sockaddr("127.0.0.1", 9, 10), 16), Errno.EAFNOSUPPORT),
     ("sendto", (FD, b"x", 1, 0, sockaddr("127.0.0.1", 0), 16), Errno.EINVAL),
     ("sendto", (FD, b"x", 1, 1, LOCAL, 16), Errno.EOPNOTSUPP),
     ("sendto", (FD, bytes(65536), 65536, 0, LOCAL, 16), Errno.EMSGSIZE),
     ("sendto", (FD, bytes(65536), 65508, 0, LOCAL, 16), Errno.EMSGSIZE),
     ("sendto", (FD, 1, 4, 0, LOCAL, 16), Errno.EFAULT),
     ("recvfrom", (FD, bytes(8), 8, MSG_DONTWAIT, 0, 0), Errno.EAGAIN),
     ("getpeername", (FD, bytes(16), b"\x10\0\0\0"), Errno.ENOTCONN),
     ("getsockname", (FD, bytes(16), b"\xff\xff\xff\xff"), Errno.EINVAL), ("getsockname", (FD, 1, 1), Errno.EFAULT),
     ("setsockopt", (FD, SOL_SOCKET, SO_RCVTIMEO, bytes(8) + (2000000).to_bytes(8, "little"), 16), Errno.EDOM),
     ("setsockopt", (FD, SOL_SOCKET, SO_RCVTIMEO, bytes(16), 8), Errno.EINVAL),
     ("setsockopt", (FD, SOL_SOCKET, SO_BROADCAST, bytes(4), 2), Errno.EINVAL),
     ("setsockopt", (FD, SOL_SOCKET, SO_BROADCAST, bytes(4), -1), Errno.EINVAL),
     ("lseek", (FD, 0, 0), Errno.ESPIPE)],
)  # fmt: skip
def test_errnos(machine: SocketMachine, name: str, args: tuple[int | bytes, ...], errno: int) -> None:
    assert answer(machine, name, *args) == -errno


# ip(7): CAP_NET_BIND_SERVICE for ports below net.ipv4.ip_unprivileged_port_start, 1024
@pytest.mark.parametrize(
    ("uid", "port", "errno"), [(0, 53, 0), (1000, 53, Errno.EACCES), (1000, 1023, Errno.EACCES), (1000, 1024, 0)]
)
def test_low_ports_are_for_root(machine: SocketMachine, uid: int, port: int, errno: int) -> None:
    assert answer(machine, "bind", FD, sockaddr("0.0.0.0", port), 16, uid=uid) == -errno


@pytest.mark.parametrize(
    ("name", "args", "feature"),
    [("socket", (2, 1, 262), "MPTCP sockets"), ("socket", (16, 3, 0), "family 16"),
     ("socket", (2, 2, 136), "UDP-Lite"),
     ("setsockopt", (FD, 1, 53, bytes(4), 4), "option 53"),
     ("setsockopt", (FD, 1, 54, bytes(4), 4), "option 54")],
)  # fmt: skip
def test_what_is_not_modelled_says_so(
    machine: SocketMachine, name: str, args: tuple[int | bytes, ...], feature: str
) -> None:
    with pytest.raises(NotModelled, match=feature):
        answer(machine, name, *args)


def test_names(machine: SocketMachine) -> None:
    seen: list[bytes] = []

    def what(task: Any, call: Call) -> None:
        call("socket", AF_INET, SOCK_DGRAM, 0)
        call("bind", FD, sockaddr("127.0.0.1", 4000), 16)
        call("connect", FD, sockaddr("127.0.0.1", 5000), 16)
        for name, room in (("getsockname", 16), ("getpeername", 16), ("getpeername", 4)):
            place = task.user.alloc(16)
            size = task.user.alloc(4, room.to_bytes(4, "little"))
            assert call(name, FD, place, size) == 0
            assert task.user.read(size, 4) == (16).to_bytes(4, "little")
            seen.append(task.user.read(place, 16))

    machine.run(what)
    own, peer = sockaddr("127.0.0.1", 4000), sockaddr("127.0.0.1", 5000)
    assert seen == [own, peer, peer[:4] + bytes(12)]


# the recordings are of a socket that had the other end on another device
@pytest.mark.parametrize(
    ("recording", "name", "args"),
    [("udp_socket", "socket", (AF_INET, SOCK_DGRAM, 0)), ("udp_bind", "bind", (FD, sockaddr("127.0.0.1", 5000), 16)),
     ("udp_connect", "connect", (FD + 1, LOCAL, 16)), ("udp_close", "close", (FD + 1,)),
     ("udp_recv_empty_eagain", "recvfrom", (FD + 1, bytes(10), 10, MSG_DONTWAIT, 0, 0)),
     ("udp_recvfrom", "recvfrom", (FD, bytes(100), 100, MSG_DONTWAIT, bytes(16), b"\x10\0\0\0")),
     ("sock_getsockname", "getsockname", (FD, bytes(16), b"\x10\0\0\0"))],
)  # fmt: skip
def test_the_order_of_calls_is_the_recorded_one(
    machine: SocketMachine, recording: str, name: str, args: tuple[int | bytes, ...]
) -> None:
    ours: list[str] = []

    def what(task: Any, call: Call) -> None:
        call("socket", AF_INET, SOCK_DGRAM, 0)
        call("socket", AF_INET, SOCK_DGRAM, 0)
        if name != "bind":
            call("bind", FD, sockaddr("127.0.0.1", 6000), 16)
            # binds the other one too
            call("sendto", FD + 1, b"hello", 5, 0, sockaddr("127.0.0.1", 6000), 16)
            machine.kernel.sched.wait(None, timeout_ns=10**6)
        machine.watch()
        assert call(name, *args) == (-Errno.EAGAIN if "eagain" in recording else 5 if "recvfrom" in recording else
                                     5 if name == "socket" else 0)  # fmt: skip
        ours.extend(machine.calls)

    machine.run(what)
    modelled = (set(ours) | set(machine.kernel.functions.names())) & known() - PACKETS
    recorded = [function for function in trees()[recording] if function in modelled]
    assert [function for function in ours if function in modelled] == recorded
    assert len(recorded) >= 5


def test_an_lsm_hook_refuses(machine: SocketMachine) -> None:
    seen: list[tuple[int, ...]] = []

    def refuse(_cpu: object, *args: int) -> int:
        seen.append(args)
        return -Errno.EPERM

    machine.kernel.functions.site("bpf_lsm_socket_bind").poke(refuse)
    assert answer(machine, "bind", FD, sockaddr("127.0.0.1", 5000), 16) == -Errno.EPERM
    assert len(seen[0]) == 3
    assert seen[0][2] == 16


def test_sockets_go_with_their_task(machine: SocketMachine) -> None:
    for _ in range(2):
        assert answer(machine, "bind", FD, sockaddr("0.0.0.0", 5000), 16) == 0
    assert not machine.kernel.net.sockets.any_udp
