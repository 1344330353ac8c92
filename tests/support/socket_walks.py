"""Scenarios of sockets as they were recorded on Linux 6.12: what is done before, and what is watched.

Namespace A (10.0.0.1) and B (10.0.0.2) are those of ``net_paths``; a scenario gets them and the calls of its task.
"""

from collections.abc import Callable
from typing import Any

from call_paths import Call
from net_paths import NetPaths, sockaddr, warm
from recordings import known

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

Scenario = Callable[[NetPaths, Any, Call], object]
SCENARIOS: dict[str, Scenario] = {}
INET, UNIX, PACKET, STREAM, DGRAM, RAW = 2, 1, 17, 1, 2, 3
ROOM = bytes(128)
B = sockaddr("10.0.0.2", 5000)
PATH = b"\1\0/tmp/d/s\0".ljust(110, b"\0")
ECHO = bytes.fromhex("0800f7fe00010000") + bytes(0)


def scenario(function: Scenario) -> Scenario:
    """Have a scenario by its name."""
    SCENARIOS[function.__name__] = function
    return function


def word(value: int, size: int = 4) -> bytes:
    """Return a number in memory."""
    return value.to_bytes(size, "little")


# ---- AF_UNIX ---------------------------------------------------------------------------------------------------------


def pair(call: Call) -> None:
    """Make two streams: descriptors 3 and 4."""
    call("socketpair", UNIX, STREAM, 0, ROOM)


def named(call: Call, kind: int = STREAM) -> None:
    """Make one socket with a name and another without: descriptors 3 and 4."""
    call("socket", UNIX, kind, 0)
    call("bind", 3, PATH, 110)
    if kind == STREAM:
        call("listen", 3, 5)
    call("socket", UNIX, kind, 0)


@scenario
def unix_socketpair(paths: NetPaths, _b: Any, call: Call) -> None:
    paths.watch()
    pair(call)


@scenario
def unix_stream_send(paths: NetPaths, _b: Any, call: Call) -> None:
    pair(call)
    paths.watch()
    call("sendto", 3, bytes(10), 10, 0, 0, 0)


@scenario
def unix_stream_recv(paths: NetPaths, _b: Any, call: Call) -> None:
    unix_stream_send(paths, _b, call)
    paths.calls.clear()
    paths.events.clear()
    call("recvfrom", 4, ROOM, 10, 0, 0, 0)


@scenario
def unix_stream_close(paths: NetPaths, _b: Any, call: Call) -> None:
    pair(call)
    paths.watch()
    call("close", 3)
    call("close", 4)


@scenario
def unix_bind_listen(paths: NetPaths, _b: Any, call: Call) -> None:
    call("socket", UNIX, STREAM, 0)
    paths.watch()
    call("bind", 3, PATH, 110)
    call("listen", 3, 5)


@scenario
def unix_connect(paths: NetPaths, _b: Any, call: Call) -> None:
    named(call)
    paths.kernel.sched.wait(None, timeout_ns=10_000_000)
    paths.watch()
    call("connect", 4, PATH, 110)


@scenario
def unix_accept(paths: NetPaths, _b: Any, call: Call) -> None:
    named(call)
    call("connect", 4, PATH, 110)
    paths.watch()
    call("accept", 3, 0, 0)


@scenario
def unix_dgram_sendto(paths: NetPaths, _b: Any, call: Call) -> None:
    named(call, DGRAM)
    paths.kernel.sched.wait(None, timeout_ns=10_000_000)
    paths.watch()
    call("sendto", 4, bytes(5), 5, 0, PATH, 110)


@scenario
def unix_dgram_recv(paths: NetPaths, _b: Any, call: Call) -> None:
    unix_dgram_sendto(paths, _b, call)
    paths.calls.clear()
    paths.events.clear()
    call("recvfrom", 3, ROOM, 5, 0, 0, 0)


# ---- UDP, raw and packet sockets -------------------------------------------------------------------------------------


def udp(call: Call) -> None:
    """Make a UDP socket that is bound: descriptor 3."""
    call("socket", INET, DGRAM, 0)
    call("bind", 3, sockaddr("0.0.0.0", 6000), 16)


@scenario
def sock_setsockopt_getsockopt(paths: NetPaths, _b: Any, call: Call) -> None:
    udp(call)
    paths.watch()
    call("setsockopt", 3, 1, 7, word(65536), 4)
    call("getsockopt", 3, 1, 7, ROOM, word(4))


@scenario
def sock_setsockopt_ip(paths: NetPaths, _b: Any, call: Call) -> None:
    udp(call)
    paths.watch()
    call("setsockopt", 3, 0, 1, word(0x10), 4)


def filter_program(paths: NetPaths, task: Any) -> int:
    """Return a descriptor of a program that wants everything."""
    loaded = paths.host.bpf.prog_load(ProgType.SOCKET_FILTER, encode(assemble("r0 = -1; exit")), license="GPL")
    prog = paths.host.prog(loaded.fd)
    prog.get()
    fd: int = task.files.install(prog)
    return fd


@scenario
def sockfilter_attach_bpf(paths: NetPaths, _b: Any, call: Call) -> None:
    udp(call)
    fd = filter_program(paths, paths.task)
    paths.watch()
    call("setsockopt", 3, 1, 50, word(fd), 4)


@scenario
def sockfilter_udp_recv(paths: NetPaths, b: Any, call: Call) -> None:
    sock = b.udp_socket("10.0.0.2", 5000)
    loaded = paths.host.bpf.prog_load(ProgType.SOCKET_FILTER, encode(assemble("r0 = -1; exit")), license="GPL")
    sock.attach_bpf(paths.host.prog(loaded.fd))
    udp(call)
    paths.watch()
    call("sendto", 3, b"hello", 5, 0, B, 16)


@scenario
def udp_send_connected(paths: NetPaths, b: Any, call: Call) -> None:
    b.udp_socket("10.0.0.2", 5000)
    udp(call)
    call("connect", 3, B, 16)
    paths.watch()
    call("sendto", 3, b"hello", 5, 0, 0, 0)


@scenario
def icmp_echo_send_reply(paths: NetPaths, _b: Any, call: Call) -> None:
    call("socket", INET, RAW, 1)
    paths.watch()
    call("sendto", 3, ECHO, len(ECHO), 0, sockaddr("10.0.0.2", 0), 16)


@scenario
def icmp_raw_recv(paths: NetPaths, _b: Any, call: Call) -> None:
    icmp_echo_send_reply(paths, _b, call)
    paths.calls.clear()
    paths.events.clear()
    call("recvfrom", 3, ROOM, 100, 0, 0, 0)


def tap(paths: NetPaths, call: Call) -> None:
    """Make a UDP socket and a tap on the device to B: descriptors 3 and 4."""
    udp(call)
    call("socket", PACKET, RAW, 0x300)
    index = paths.a.devices["va"].ifindex
    call("bind", 4, b"\x11\0\0\3" + word(index) + bytes(12), 20)


@scenario
def packet_socket_send_tap(paths: NetPaths, b: Any, call: Call) -> None:
    b.udp_socket("10.0.0.2", 5000)
    tap(paths, call)
    paths.watch()
    call("sendto", 3, b"hello", 5, 0, B, 16)


@scenario
def packet_socket_recv(paths: NetPaths, b: Any, call: Call) -> None:
    packet_socket_send_tap(paths, b, call)
    paths.calls.clear()
    paths.events.clear()
    call("recvfrom", 4, ROOM, 100, 0, 0, 0)


# ---- TCP -------------------------------------------------------------------------------------------------------------


def stream(call: Call) -> None:
    """Make a TCP socket: descriptor 3."""
    call("socket", INET, STREAM, 0)


@scenario
def tcp_socket(paths: NetPaths, _b: Any, call: Call) -> None:
    paths.watch()
    stream(call)


@scenario
def tcp_bind(paths: NetPaths, _b: Any, call: Call) -> None:
    stream(call)
    paths.watch()
    call("bind", 3, sockaddr("127.0.0.1", 5000), 16)


@scenario
def tcp_listen(paths: NetPaths, _b: Any, call: Call) -> None:
    stream(call)
    call("bind", 3, sockaddr("127.0.0.1", 5000), 16)
    paths.watch()
    call("listen", 3, 16)


def listening(call: Call) -> None:
    """Make a socket that listens and another: descriptors 3 and 4."""
    stream(call)
    call("bind", 3, sockaddr("127.0.0.1", 5000), 16)
    call("listen", 3, 16)
    stream(call)


@scenario
def tcp_connect_3whs(paths: NetPaths, _b: Any, call: Call) -> None:
    listening(call)
    paths.watch()
    call("connect", 4, sockaddr("127.0.0.1", 5000), 16)


@scenario
def tcp_connect_refused(paths: NetPaths, _b: Any, call: Call) -> None:
    paths.watch()
    stream(call)
    call("connect", 3, sockaddr("127.0.0.1", 5999), 16)
    call("close", 3)


def connected(call: Call) -> None:
    """Make a connection: descriptors 4 (who connected) and 5."""
    listening(call)
    call("connect", 4, sockaddr("127.0.0.1", 5000), 16)
    call("accept", 3, 0, 0)


@scenario
def tcp_accept(paths: NetPaths, _b: Any, call: Call) -> None:
    listening(call)
    call("connect", 4, sockaddr("127.0.0.1", 5000), 16)
    paths.watch()
    call("accept", 3, 0, 0)


@scenario
def tcp_send_data(paths: NetPaths, _b: Any, call: Call) -> None:
    connected(call)
    paths.watch()
    call("sendto", 4, b"hello", 5, 0, 0, 0)


@scenario
def tcp_recv_data(paths: NetPaths, _b: Any, call: Call) -> None:
    connected(call)
    call("sendto", 4, b"hello", 5, 0, 0, 0)
    paths.watch()
    call("recvfrom", 5, ROOM, 100, 0, 0, 0)


@scenario
def tcp_shutdown_wr(paths: NetPaths, _b: Any, call: Call) -> None:
    connected(call)
    paths.watch()
    call("shutdown", 4, 1)


@scenario
def tcp_sockopts(paths: NetPaths, _b: Any, call: Call) -> None:
    connected(call)
    paths.watch()
    call("setsockopt", 4, 6, 1, word(1), 4)
    call("getsockopt", 4, 6, 11, bytes(256), word(256))


@scenario
def tcp_recv_eof(paths: NetPaths, _b: Any, call: Call) -> None:
    connected(call)
    call("shutdown", 4, 1)
    paths.watch()
    call("recvfrom", 5, ROOM, 100, 0, 0, 0)


@scenario
def tcp_close_active_fin(paths: NetPaths, _b: Any, call: Call) -> None:
    connected(call)
    paths.watch()
    call("close", 4)


def walked(name: str) -> NetPaths:
    """Return what a scenario called."""
    paths = NetPaths()
    paths.only = known()
    paths.kernel.vfs.add("/tmp/d/f", b"")
    b = paths.pair()
    warm(paths.a)
    warm(b)

    def what(task: Any, call: Call) -> None:
        paths.task = task
        SCENARIOS[name](paths, b, call)
        paths.stop()

    paths.run(what)
    return paths
