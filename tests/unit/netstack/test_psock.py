"""Sockets in sockmaps: who joins, who leaves, what they hold (net/core/sock_map.c, v6.18)."""

from typing import Any

import pytest
import sockmap_worlds

from ebpfsim import Simulation
from ebpfsim.uapi.bpf import AttachType as A


@pytest.fixture
def world() -> Any:
    return sockmap_worlds.Simulated(Simulation(seed=1).host("h"))


def tcp(world: Any, end: str) -> Any:
    """Return the TCP socket of an end."""
    return world.task.task.files.file(world.ends[end]).obj.private.sk


def test_programs_are_taken_over_when_a_socket_joins(world: Any) -> None:
    assert world.join("a", 0) == "ok"
    world.attach({"msg": "r0 = 0; exit"})
    # it came before the program
    assert tcp(world, "a").psock.progs == {}
    assert world.send("a", b"hello") == 5
    assert world.join("b", 1) == "ok"
    assert list(tcp(world, "b").psock.progs) == [A.SK_MSG_VERDICT]
    assert world.send("b", b"hello") == "EACCES"


def test_a_socket_that_closes_leaves(world: Any) -> None:
    world.attach({"msg": "r0 = 1; exit"})
    assert world.join("a", 0) == "ok"
    sock = tcp(world, "a")
    world.call("close", world.ends["a"])
    assert (sock.psock, world.leave(0)) == (None, "EINVAL")


def test_programs_are_given_back(world: Any) -> None:
    world.attach({"msg": "r0 = 1; exit", "verdict": "r0 = 1; exit"})
    progs = list(world.host.kernel.progs)
    before = [prog.refs for prog in progs]
    assert [world.join("a", 0), world.join("A", 1)] == ["ok", "ok"]
    assert [prog.refs for prog in progs] == [count + 2 for count in before]
    assert [world.leave(0), world.leave(1)] == ["ok", "ok"]
    assert [prog.refs for prog in progs] == before


def test_sockets_that_are_not_connected_are_not_taken(world: Any) -> None:
    world.ends["new"] = world.call("socket", "inet", "stream")
    assert world.join("new", 0) == "EOPNOTSUPP"
    world.ends["file"] = world.call("openat", "/etc/passwd")
    assert world.join("file", 0) == "ENOTSOCK"
    assert world.join("a", 4) == "E2BIG"


def test_listening_sockets_are_taken_and_nothing_is_sent_to_them(world: Any) -> None:
    listener = world.ends["listener"] = world.call("socket", "inet", "stream")
    assert (world.call("bind", listener, "127.0.0.1:7000"), world.call("listen", listener, 5)) == (0, 0)
    world.attach({"msg": "r2 = map_fd[{map}] ll; r3 = 1; r4 = 0; call bpf_msg_redirect_map; exit"})
    assert [world.join("a", 0), world.join("listener", 1)] == ["ok", "ok"]
    assert world.send("a", b"hello") == "EACCES"


def test_what_waits_for_its_reader_is_seen_by_poll(world: Any) -> None:
    from netstack.tcp import poll_mask

    world.attach({"msg": "r2 = map_fd[{map}] ll; r3 = 1; r4 = 1; call bpf_msg_redirect_map; exit"})
    assert [world.join("a", 0), world.join("b", 1)] == ["ok", "ok"]
    assert (world.send("a", b"hello"), poll_mask(tcp(world, "b")) & 1) == (5, 1)
    assert (world.recv("b"), poll_mask(tcp(world, "b")) & 1) == (b"hello", 0)
