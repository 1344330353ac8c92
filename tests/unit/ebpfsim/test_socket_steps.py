"""What steps say about sockets, as bytes (ip(7), ipv6(7), unix(7), packet(7)), and steps that talk by them."""

import socket
from typing import Any

import pytest

import ebpfsim
from ebpfsim.errors import InputError
from ebpfsim.socket_steps import SOCKET_CONSTANTS, SOCKET_WORDS, endpoint
from ebpfsim.task_steps import step_problems


@pytest.mark.parametrize("name", [name for name in SOCKET_CONSTANTS if hasattr(socket, name)])
def test_constants_are_those_of_the_system(name: str) -> None:
    assert SOCKET_CONSTANTS[name] == getattr(socket, name)


def test_words_are_constants() -> None:
    assert set(SOCKET_WORDS.values()) <= set(SOCKET_CONSTANTS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10.0.0.2:53", "0200 0035 0a000002 0000000000000000"),
     ("[fd00::2]:53", "0a00 0035 00000000 fd000000000000000000000000000002 00000000"),
     ("[fe80::1%2]:53", "0a00 0035 00000000 fe800000000000000000000000000001 02000000"),
     ("unix:/a", "0100 2f61 00"), ("unix:@ab", "0100 00 6162"),
     ("link:2", "1100 0000 02000000 0000 00 06 0000000000000000"),
     ("link:3/0x0806", "1100 0806 03000000 0000 00 06 0000000000000000")],
)  # fmt: skip
def test_addresses(text: str, expected: str) -> None:
    assert endpoint(text) == bytes.fromhex(expected.replace(" ", ""))


@pytest.mark.parametrize(
    "text", ["", "10.0.0.2", "::1:53", "[10.0.0.1]:5", "10.0.0.1:70000", "10.0.0.1:-1", "unix:", "link:x", "link:1/y",
             "unix:" + "x" * 108, 7]
)  # fmt: skip
def test_what_is_no_address(text: object) -> None:
    with pytest.raises(InputError):
        endpoint(text)


@pytest.mark.parametrize(
    ("step", "path"),
    [({"bind": ["$s", "unix"]}, ("bind", 1)), ({"socket": ["unix", "strem"]}, ("socket", 1)),
     ({"poll": ["$s", "POLLIM"]}, ("poll", 1)), ({"poll": ["$s", "POLLIN", "never"]}, ("poll", 2)),
     ({"setsockopt": ["$s", "SOL_SOCKET", "SO_RCVBUFF", 1]}, ("setsockopt", 2)),
     ({"send_fds": ["$s", "x"]}, ("send_fds",)), ({"send_fds": ["$s", "x", "fd"]}, ("send_fds", 2)),
     ({"recv_fds": ["$s", -1]}, ("recv_fds", 1)), ({"sendto": ["$s", "x", "link:q"]}, ("sendto", 2))],
)  # fmt: skip
def test_mistakes_have_places(step: Any, path: tuple[object, ...]) -> None:
    calls = ebpfsim.Simulation(seed=1).host("h").kernel.syscalls.table
    (problem,) = step_problems(step, calls, ["s"])
    assert problem.path == path


def results(host: Any, name: str, steps: list[Any], **options: Any) -> Any:
    task = host.spawn(name, steps=steps, **options)
    return lambda: [each.retval for each in task.results]


def test_tasks_talk_by_all_kinds_of_sockets() -> None:
    sim = ebpfsim.Simulation(seed=1)
    host = sim.host("h")
    host.kernel.vfs.add("/run/x")
    server = results(host, "srv", [
        {"socket": ["unix", "stream"], "as": "l"}, {"bind": ["$l", "unix:/run/app.sock"]}, {"listen": ["$l", 5]},
        {"accept": "$l", "as": "c"}, {"recv": ["$c", 64]}, {"send": ["$c", "answer"]}, {"recv": ["$c", 64]},
        {"socket": ["inet6", "dgram"], "as": "u"}, {"bind": ["$u", "[::]:5000"]},
        {"poll": ["$u", "POLLIN", "forever"]}, {"recv": ["$u", 64]}, {"recv": ["$u", 64, "MSG_DONTWAIT"]},
        {"poll": ["$u", "POLLIN|POLLOUT", 0]},
    ])  # fmt: skip
    client = results(host, "cli", [
        {"socket": ["unix", "stream"], "as": "s"}, {"connect": ["$s", "unix:/run/app.sock"]}, {"send": ["$s", "hello"]},
        {"recv": ["$s", 64]}, {"getsockopt": ["$s", "SOL_SOCKET", "SO_PEERCRED"]}, {"close": "$s"}, {"sleep": "1ms"},
        {"socket": ["inet", "dgram"], "as": "u"}, {"sendto": ["$u", "four", "127.0.0.1:5000"]},
        {"setsockopt": ["$u", "SOL_SOCKET", "SO_RCVBUF", 4096]}, {"socket": ["packet", "raw"], "as": "p"},
        {"bind": ["$p", "link:1/3"]}, {"socket": ["inet", "raw", "icmp"], "as": "r"},
    ], at="1ms")  # fmt: skip
    sim.run("1s")
    assert server() == [3, 0, 0, 4, 5, 6, 0, 5, 0, 1, 4, -11, 1]
    assert client() == [3, 0, 5, 6, 0, 0, 0, 3, 4, 0, 4, 0, 5]


def test_descriptors_are_sent() -> None:
    sim = ebpfsim.Simulation(seed=1)
    host = sim.host("h")
    host.kernel.vfs.add("/etc/motd", b"welcome")
    done = results(host, "t", [
        {"socketpair": ["unix", "dgram"]}, {"openat": "/etc/motd", "as": "f"}, {"send_fds": [3, "file", "$f"]},
        {"close": "$f"}, {"recv_fds": [4, 64]}, {"read": [5, 64]},
    ])  # fmt: skip
    sim.run()
    assert done() == [0, 5, 4, 0, 4, 7]
