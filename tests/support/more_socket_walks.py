"""Calls on sockets of one namespace that were recorded on Linux 6.12 after the model was written (function tracer).

A walk is what is called between two marks; ``walked`` makes the same calls and returns what ours call.
"""

import json
import lzma
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from net_paths import NOISE, NetPaths, sockaddr, warm
from recordings import known
from socket_walks import word

DATA = Path(__file__).resolve().parents[1] / "data" / "socket_walks_6.12.json.xz"
UNIX, INET, INET6, PACKET, STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 10, 17, 1, 2, 3, 5
ROOM = bytes(128)
SERVER, CLIENT, LOCAL = sockaddr("127.0.0.1", 5000), sockaddr("127.0.0.1", 6000), sockaddr("127.0.0.1", 0)
# timers that came in between, and checks of copies
BETWEEN = frozenset((
    "__check_object_size", "hrtimer_interrupt", "__hrtimer_run_queues", "tick_nohz_handler", "notifier_call_chain",
    "update_process_times", "sched_tick", "task_tick_fair", "sched_balance_trigger", "handle_softirqs", "__do_softirq",
    "try_to_wake_up", "ttwu_queue_wakelist", "ttwu_do_activate", "enqueue_task", "enqueue_task_fair", "psi_task_change",
    "dequeue_task_fair", "dequeue_entities", "hrtimer_try_to_cancel", "hrtimer_start_range_ns", "pick_next_task_fair",
    "pick_task_fair", "put_prev_task_fair", "psi_task_switch", "enqueue_entity", "wakeup_preempt", "dequeue_entity",
    "check_preempt_wakeup_fair", "ipv4_dst_check", "wake_up_process", "default_wake_function", "set_next_task_fair",
))  # fmt: skip


@cache
def recorded() -> dict[str, list[str]]:
    """Return what Linux called."""
    found: dict[str, list[str]] = json.loads(lzma.decompress(DATA.read_bytes()))
    return found


def named(path: bytes) -> bytes:
    """Return ``struct sockaddr_un``."""
    return b"\1\0" + path.ljust(108, b"\0")


def local6(port: int) -> bytes:
    """Return ``struct sockaddr_in6`` of ::1."""
    return b"\x0a\0" + port.to_bytes(2, "big") + bytes(19) + b"\1" + bytes(4)


class Walker:
    """A task that makes calls; ``walks`` are the functions of those that were watched."""

    def __init__(self, paths: NetPaths, task: Any, call: Callable[..., int]) -> None:
        self.paths, self.task, self.call = paths, task, call
        self.walks: dict[str, list[str]] = {}

    def put(self, data: bytes) -> int:
        """Return where bytes are that stay."""
        address: int = self.task.user.alloc(max(1, len(data)), data)
        return address

    def message(self, *, name: int = 0, control: int = 0, size: int = 0) -> int:
        """Return where a ``struct user_msghdr`` with ten bytes is."""
        piece = self.put(struct.pack("<QQ", self.put(bytes(16)), 10))
        return self.put(struct.pack("<QI4xQQQQI4x", name, 16 if name else 0, piece, 1, control, size, 0))

    def walk(self, name: str, *calls: tuple[Any, ...]) -> None:
        """Watch calls."""
        paths = self.paths
        paths.calls.clear()
        if not self.walks:
            paths.watch()
        paths.watching = True
        for each in calls:
            self.call(*each)
        paths.stop()
        self.walks[name] = list(paths.calls)


def _unix(walker: Walker) -> None:
    walk, call = walker.walk, walker.call
    walk("unix_seqpair", ("socketpair", UNIX, SEQPACKET, 0, ROOM))
    walk("unix_seq_send", ("sendto", 4, ROOM, 10, 0, 0, 0))
    walk("unix_seq_recv", ("recvfrom", 5, ROOM, 20, 0, 0, 0))
    walk("unix_shutdown", ("shutdown", 4, 1))
    call("close", 4)
    call("close", 5)
    call("socketpair", UNIX, STREAM, 0, ROOM)
    walk("unix_read_nothing", ("recvfrom", 5, ROOM, 10, 0x40, 0, 0))
    call("write", 4, ROOM, 10)
    walk("unix_read", ("read", 5, ROOM, 10))
    walk("unix_recv_eagain", ("recvfrom", 5, ROOM, 10, 0x40, 0, 0))
    walk("unix_poll", ("poll", b"\5\0\0\0\1\0\0\0", 1, 0))
    walk("unix_getsockname", ("getsockname", 4, ROOM, word(110)))
    walk("unix_getpeername", ("getpeername", 4, ROOM, word(110)))
    fd = call("openat", -100, "/tmp/d/f", 2, 0)
    control = walker.put(struct.pack("<Qiii4x", 20, 1, 1, fd))
    walk("unix_sendmsg_fd", ("sendmsg", 4, walker.message(control=control, size=24), 0))
    walk("unix_recvmsg_fd", ("recvmsg", 5, walker.message(control=walker.put(bytes(64)), size=64), 0))
    call("close", fd + 1)
    call("close", fd)
    call("close", 5)
    walk("unix_send_epipe", ("sendto", 4, ROOM, 10, 0x4000, 0, 0))
    call("close", 4)
    call("socket", UNIX, DGRAM, 0)
    call("bind", 4, named(b"/tmp/d/s"), 110)
    call("socket", UNIX, DGRAM, 0)
    call("connect", 5, named(b"/tmp/d/s"), 110)
    walk("unix_dgram_send", ("sendto", 5, ROOM, 5, 0, 0, 0))
    walk("unix_dgram_recvfrom", ("recvfrom", 4, ROOM, 5, 0, ROOM, word(110)))
    walk("unix_dgram_close", ("close", 5))
    call("close", 4)
    call("socket", UNIX, STREAM, 0)
    walk("unix_bind_abstract", ("bind", 4, b"\1\0\0abs", 6))
    call("listen", 4, 5)
    call("socket", UNIX, STREAM, 0)
    walk("unix_connect_abstract", ("connect", 5, b"\1\0\0abs", 6))
    walk("unix_close_listener", ("close", 4))
    walk("unix_close_client", ("close", 5))


def _udp(walker: Walker) -> None:
    walk, call = walker.walk, walker.call
    for fd, name in ((4, SERVER), (5, CLIENT)):
        call("socket", INET, DGRAM, 0)
        call("bind", fd, name, 16)
    call("sendto", 5, ROOM, 5, 0, SERVER, 16)
    call("recvfrom", 4, ROOM, 5, 0, 0, 0)
    walk("udp_poll_empty", ("poll", b"\4\0\0\0\1\0\0\0", 1, 0))
    call("epoll_create1", 0)
    call("epoll_ctl", 6, 1, 4, word(1, 12))
    walk("udp_epoll_send", ("sendto", 5, ROOM, 5, 0, SERVER, 16))
    walk("udp_epoll_wait", ("epoll_pwait", 6, ROOM, 1, 0, 0, 8))
    walk("udp_peek", ("recvfrom", 4, ROOM, 5, 2, 0, 0))
    walk("udp_read", ("read", 4, ROOM, 5))
    name = walker.put(SERVER)
    walk("udp_sendmsg", ("sendmsg", 5, walker.message(name=name), 0))
    walk("udp_recvmsg", ("recvmsg", 4, walker.message(name=walker.put(bytes(16))), 0))
    walk("udp_sendmmsg", *[("sendmsg", 5, walker.message(name=name), 0)] * 2)
    piece = walker.put(struct.pack("<QQ", walker.put(bytes(16)), 10))
    header = struct.pack("<QI4xQQQQI4xI4x", walker.put(bytes(16)), 16, piece, 1, 0, 0, 0, 0)
    walk("udp_recvmmsg", ("recvmmsg", 4, walker.put(header + header), 2, 0x40, 0))
    call("connect", 5, SERVER, 16)
    walk("udp_getpeername", ("getpeername", 5, ROOM, word(16)))
    walk("udp_shutdown", ("shutdown", 5, 2))
    walk("sock_error", ("getsockopt", 4, 1, 4, ROOM, word(4)))
    walk("sock_rcvbuf", ("setsockopt", 4, 1, 8, word(4096), 4))
    walk("ip_ttl", ("setsockopt", 4, 0, 2, word(9), 4))
    walk("ip_get_ttl", ("getsockopt", 4, 0, 2, ROOM, word(4)))


def _others(walker: Walker) -> None:
    walk, call = walker.walk, walker.call
    walk("udp6_socket", ("socket", INET6, DGRAM, 0))
    walk("udp6_bind", ("bind", 4, local6(5000), 28))
    call("socket", INET6, DGRAM, 0)
    call("bind", 5, local6(6000), 28)
    call("sendto", 5, ROOM, 5, 0, local6(5000), 28)
    walk("udp6_recvfrom", ("recvfrom", 4, ROOM, 5, 0, ROOM, word(28)))
    walk("udp6_connect", ("connect", 5, local6(5000), 28))
    walk("udp6_getsockname", ("getsockname", 5, ROOM, word(28)))
    walk("udp6_close", ("close", 5))
    call("close", 4)
    walk("raw_socket", ("socket", INET, RAW, 200))
    call("sendto", 4, ROOM, 5, 0, LOCAL, 16)
    walk("raw_recv", ("recvfrom", 4, ROOM, 50, 0, 0, 0))
    walk("raw_close", ("close", 4))
    walk("packet_socket", ("socket", PACKET, DGRAM, 0))
    walk("packet_bind", ("bind", 4, b"\x11\0\x08\0\1\0\0\0" + bytes(12), 20))
    walk("packet_getsockname", ("getsockname", 4, ROOM, word(20)))
    walk("packet_close", ("close", 4))


FAMILIES: dict[str, Callable[[Walker], None]] = {"AF_UNIX": _unix, "UDP": _udp, "IPv6, raw, packet": _others}


def walked(family: str) -> tuple[NetPaths, dict[str, list[str]]]:
    """Return what the calls of a family go through."""
    paths = NetPaths()
    paths.only = known().union(*recorded().values())
    paths.kernel.vfs.add("/tmp/d/f", b"")
    warm(paths.a)
    walks: dict[str, list[str]] = {}

    def what(task: Any, call: Callable[..., int]) -> None:
        walker = Walker(paths, task, call)
        # descriptors begin behind that of the marks
        call("socket", INET, DGRAM, 0)
        FAMILIES[family](walker)
        walks.update(walker.walks)

    paths.run(what)
    return paths, walks


def common(paths: NetPaths, name: str, ours: list[str]) -> tuple[list[str], list[str]]:
    """Return our functions and the recorded ones, of those that both could have."""
    theirs = recorded()[name]
    everything = known().union(*recorded().values())
    both = ((set(paths.kernel.functions.names()) | set(ours)) & everything) - NOISE - BETWEEN
    return [each for each in ours if each in both], [each for each in theirs if each in both]
