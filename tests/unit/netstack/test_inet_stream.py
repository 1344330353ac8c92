"""Stream sockets of tasks: who waits, who is woken, what calls return (accept(2), connect(2), send(2), recv(2))."""

from typing import Any

import pytest

import ebpfsim
from ebpfsim.errnos import Errno

SERVER = [{"socket": ["inet", "stream"], "as": "l"}, {"bind": ["$l", "10.0.0.2:80"]}, {"listen": ["$l", 5]}]


class Pair:
    """Two hosts, tasks on both."""

    def __init__(self) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.a, self.b = self.sim.host("a"), self.sim.host("b")
        nics = self.a.nic("eth0", "10.0.0.1/24"), self.b.nic("eth0", "10.0.0.2/24")
        self.sim.link(*nics, rate="1Gbit", delay="1ms")

    def run(self, server: list[Any], client: list[Any]) -> tuple[list[Any], list[Any]]:
        srv = self.b.spawn("srv", steps=[*SERVER, *server])
        cli = self.a.spawn("cli", at="1ms", steps=[{"socket": ["inet", "stream"], "as": "s"}, *client])
        self.sim.run("100s")
        self.server_results = srv.results[len(SERVER) :]
        return [each.retval for each in self.server_results], [each.retval for each in cli.results[1:]]


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_conversation(pair: Pair) -> None:
    server, client = pair.run(
        [{"accept": ["$l", 0, 0], "as": "c"}, {"recv": ["$c", 100]}, {"send": ["$c", "answer"]}, {"recv": ["$c", 9]}],
        [{"connect": ["$s", "10.0.0.2:80"]}, {"send": ["$s", "question"]}, {"recv": ["$s", 100]}, {"close": "$s"}],
    )
    assert server == [4, 8, 6, 0]
    assert client == [0, 8, 6, 0]
    # accept() slept until the third segment had come
    assert pair.server_results[0].end_ns > 5_000_000


def test_refused_and_unreachable(pair: Pair) -> None:
    _, client = pair.run([], [{"connect": ["$s", "10.0.0.2:81"]}, {"connect": ["$s", "192.168.9.9:80"]}])
    assert client == [-Errno.ECONNREFUSED, -Errno.ENETUNREACH]


def test_without_waiting(pair: Pair) -> None:
    connect = {"connect": ["$n", "10.0.0.2:80"]}
    _, client = pair.run(
        [{"accept": ["$l", 0, 0], "as": "c"}, {"sleep": "1s"}],
        [{"socket": ["inet", "SOCK_STREAM|SOCK_NONBLOCK"], "as": "n"}, connect, connect, {"recv": ["$n", 5]},
         {"sleep": "10ms"}, connect, connect, {"recv": ["$n", 5]}],
    )  # fmt: skip
    assert client[1:] == [
        -Errno.EINPROGRESS, -Errno.EALREADY, -Errno.EAGAIN, 0, 0, -Errno.EISCONN, -Errno.EAGAIN,
    ]  # fmt: skip


def test_shutdown_ends_one_direction(pair: Pair) -> None:
    server, client = pair.run(
        [{"accept": ["$l", 0, 0], "as": "c"}, {"recv": ["$c", 9]}, {"recv": ["$c", 9]}, {"send": ["$c", "late"]}],
        [{"connect": ["$s", "10.0.0.2:80"]}, {"send": ["$s", "bye"]}, {"shutdown": ["$s", 1]}, {"recv": ["$s", 9]},
         {"send": ["$s", "more"]}, {"shutdown": ["$s", 7]}],
    )  # fmt: skip
    assert server == [4, 3, 0, 4]
    assert client == [0, 3, 0, 4, -Errno.EPIPE, -Errno.EINVAL]


def test_a_writer_waits_for_room(pair: Pair) -> None:
    text = "x" * 100_000
    server, client = pair.run(
        [{"accept": ["$l", 0, 0], "as": "c"}, {"sleep": "1s"}, *({"recv": ["$c", 60_000]} for _ in range(90))],
        [
            {"connect": ["$s", "10.0.0.2:80"]},
            {"setsockopt": ["$s", 1, 7, "\x00\x10\x00\x00", 4]},
            {"send": ["$s", text]},
        ],
    )
    assert client[2] == 100_000
    assert sum(server[2:]) == 100_000


def test_what_listen_and_accept_refuse(pair: Pair) -> None:
    server, client = pair.run(
        [{"accept4": ["$l", 0, 0, 1]}, {"listen": [99, 1]}, {"sleep": "1s"}],
        [{"accept": ["$s", 0, 0]}, {"shutdown": ["$s", 1]}, {"send": ["$s", "x"]}, {"recv": ["$s", 1]},
         {"connect": ["$s", "10.0.0.2:80"]}, {"listen": ["$s", 1]}, {"bind": ["$s", "10.0.0.1:0"]}],
    )  # fmt: skip
    assert server == [-Errno.EINVAL, -Errno.EBADF, 0]
    assert client == [
        -Errno.EINVAL, -Errno.ENOTCONN, -Errno.EPIPE, -Errno.ENOTCONN, 0, -Errno.EINVAL, -Errno.EINVAL,
    ]  # fmt: skip


def test_two_tasks_wait_for_two_connections(pair: Pair) -> None:
    # a task and its server's second connection
    client = [{"connect": ["$s", "10.0.0.2:80"]}]
    pair.a.spawn("other", at="2ms", steps=[{"socket": ["inet", "stream"], "as": "s"}, *client])
    server, first = pair.run([{"accept": ["$l", 0, 0]}, {"accept": ["$l", 0, 0]}], client)
    assert (server, first) == ([4, 5], [0])


def test_a_host_talks_to_itself(pair: Pair) -> None:
    # what comes back at once waits until the task has given the socket back (sk_backlog)
    pair.a, pair.b = pair.b, pair.b
    server, client = pair.run(
        [{"accept": ["$l", 0, 0], "as": "c"}, *({"recv": ["$c", 60_000]} for _ in range(20))],
        [{"connect": ["$s", "10.0.0.2:80"]}, {"send": ["$s", "x" * 200_000]}, {"close": "$s"}],
    )
    assert client == [0, 200_000, 0]
    assert sum(server[1:]) == 200_000
