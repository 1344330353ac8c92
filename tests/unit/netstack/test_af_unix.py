"""AF_UNIX sockets: what Linux 6.18 answered."""

from typing import Any

import pytest
import socket_cases
from socket_machine import SocketMachine

from ebpfsim.errnos import Errno
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType


@pytest.mark.parametrize("name", socket_cases.CASES["af_unix"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("af_unix", name)


def test_programs_of_the_cgroup_are_asked_about_names() -> None:
    """cgroup/connect_unix and its kin: a refusal is EPERM."""
    machine, got = SocketMachine(), []
    host = machine.sim.hosts["h"]
    for kind, text in (
        (AttachType.CGROUP_UNIX_CONNECT, "r0 = 0; exit"),
        (AttachType.CGROUP_UNIX_SENDMSG, "r0 = 0; exit"),
        (AttachType.CGROUP_UNIX_GETSOCKNAME, "r0 = 1; exit"),
    ):
        loaded = host.bpf.prog_load(ProgType.CGROUP_SOCK_ADDR, encode(assemble(text)), expected_attach_type=kind)
        host.attach_cgroup(loaded.fd, "/")
    name = b"\1\0\0srv"

    def what(_task: object, call: Any) -> None:
        for kind in (1, 2):
            call("socket", 1, kind, 0)
        got.append(call("bind", 3, name, len(name)))
        got.append(call("bind", 4, name, len(name)))
        got.append(call("listen", 3, 5))
        for kind in (1, 2):
            fd = call("socket", 1, kind, 0)
            got.append(call("connect", fd, name, len(name)))
        got.append(call("sendto", fd, b"x", 1, 0, name, len(name)))
        got.append(call("getsockname", 3, bytes(110), b"\x6e\0\0\0"))

    machine.run(what)
    assert got == [0, 0, 0, -Errno.EPERM, -Errno.EPERM, -Errno.EPERM, 0]


def test_security_modules_refuse_connections_and_datagrams() -> None:
    machine, got = SocketMachine(), []
    seen: list[tuple[str, int]] = []
    for hook in ("unix_stream_connect", "unix_may_send"):
        site = machine.kernel.functions.site(f"bpf_lsm_{hook}")
        site.poke(lambda _cpu, *args, hook=hook: seen.append((hook, len(args))) or -Errno.EPERM)
    name = b"\1\0\0srv"

    def what(_task: object, call: Any) -> None:
        for kind in (1, 2):
            call("socket", 1, kind, 0)
            call("bind", 2 + kind, name, len(name))
        call("listen", 3, 5)
        call("socket", 1, 1, 0)
        got.append(call("connect", 5, name, len(name)))
        call("socket", 1, 2, 0)
        got.append(call("sendto", 6, b"x", 1, 0, name, len(name)))

    machine.run(what)
    assert got == [-Errno.EPERM, -Errno.EPERM]
    assert seen == [("unix_stream_connect", 3), ("unix_may_send", 2)]


def test_a_reader_and_a_connecting_task_wait() -> None:
    machine, got = SocketMachine(), list[tuple[str, int]]()
    name = b"\1\0\0srv"

    def server(_task: object, call: Any) -> None:
        call("socket", 1, 1, 0)
        call("bind", 3, name, len(name))
        call("listen", 3, 0)
        fd = call("accept", 3, 0, 0)
        got.append(("server", call("recvfrom", fd, bytes(9), 9, 0, 0, 0)))
        got.append(("server", call("sendto", fd, b"answer", 6, 0, 0, 0)))

    def client(_task: object, call: Any) -> None:
        machine.kernel.sched.wait(None, timeout_ns=1_000_000)
        call("socket", 1, 1, 0)
        got.append(("client", call("connect", 3, name, len(name))))
        machine.kernel.sched.wait(None, timeout_ns=1_000_000)
        got.append(("client", call("sendto", 3, b"hello", 5, 0, 0, 0)))
        got.append(("client", call("recvfrom", 3, bytes(9), 9, 0, 0, 0)))
        got.append(("client", call("recvfrom", 3, bytes(9), 9, 0, 0, 0)))

    machine.start(server)
    machine.start(client)
    machine.sim.run("1s")
    assert got == [("client", 0), ("client", 5), ("server", 5), ("server", 6), ("client", 6), ("client", 0)]


def test_who_writes_to_a_closed_end_gets_a_signal() -> None:
    # unix(7): EPIPE, and SIGPIPE unless MSG_NOSIGNAL is set; a signal whose default ends the task
    machine, got = SocketMachine(), []

    def what(_task: object, call: Any) -> None:
        call("socketpair", 1, 1, 0, bytes(8))
        call("close", 4)
        got.append(call("sendto", 3, b"x", 1, 0x4000, 0, 0))
        call("sendto", 3, b"x", 1, 0, 0, 0)
        got.append("alive")

    machine.run(what)
    assert got == [-Errno.EPIPE]


def test_sockets_leave_nothing_behind() -> None:
    machine = SocketMachine()

    def what(_task: object, call: Any) -> None:
        call("socketpair", 1, 1, 0, bytes(8))
        call("sendto", 3, b"unread", 6, 0, 0, 0)
        name = b"\1\0\0srv"
        call("socket", 1, 1, 0)
        call("bind", 5, name, len(name))
        call("listen", 5, 5)
        for _ in range(3):
            call("connect", call("socket", 1, 1, 0), name, len(name))
        call("accept", 5, 0, 0)

    machine.run(what)
    names, sockfs = machine.kernel.sockfs.unix_names, machine.kernel.sockfs
    assert (names.all, names.abstract, sockfs.orphans, sockfs._by_address) == ([], {}, {}, {})
