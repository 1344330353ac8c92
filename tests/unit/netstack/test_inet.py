"""IPv4 datagram sockets of tasks: who gets what, who waits and who is woken (udp(7), ip(7), socket(7))."""

from typing import Any

import pytest
import socket_cases
from socket_machine import AF_INET, MSG_DONTWAIT, SOCK_DGRAM, Call, SocketMachine, sockaddr

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P
from netstack.sock_struct import SKC_DADDR, SKC_DPORT, SKC_NUM, SKC_STATE

FD = 3
SERVER = sockaddr("127.0.0.1", 5000)


def socket(call: Call, address: bytes = b"") -> None:
    assert call("socket", AF_INET, SOCK_DGRAM, 0) == FD
    if address:
        assert call("bind", FD, address, 16) == 0


def receiver(machine: SocketMachine, got: list[tuple[int, bytes, int]], address: bytes = SERVER) -> None:
    def what(task: Any, call: Call) -> None:
        socket(call, address)
        place = task.user.alloc(64)
        size = call("recvfrom", FD, place, 64, 0, 0, 0)
        got.append((size, task.user.read(place, max(size, 0)), machine.sim.now_ns))

    machine.start(what)


def test_a_task_waits_for_a_datagram() -> None:
    machine, got = SocketMachine(), []
    receiver(machine, got)

    def send(_task: object, call: Call) -> None:
        socket(call)
        machine.kernel.sched.wait(None, timeout_ns=5_000_000)
        assert not got
        assert call("sendto", FD, b"hello", 5, 0, SERVER, 16) == 5

    machine.run(send)
    ((size, data, time_ns),) = got
    assert (size, data) == (5, b"hello")
    assert time_ns >= 5_000_000


def test_each_datagram_wakes_one_task() -> None:
    # prepare_to_wait_exclusive(): two threads at one socket, two datagrams
    machine, got = SocketMachine(), []

    def first(task: Any, call: Call) -> None:
        socket(call, SERVER)

        def second(thread: Any) -> int:
            place = thread.user.alloc(64)
            got.append(("second", machine.kernel.syscalls.call(thread, "recvfrom", FD, place, 64, 0, 0, 0)))
            return 0

        machine.kernel.sched.spawn("thread", second, leader=task)
        got.append(("first", call("recvfrom", FD, bytes(64), 64, 0, 0, 0)))
        machine.kernel.sched.wait(None, timeout_ns=10_000_000)

    def send(_task: object, call: Call) -> None:
        socket(call)
        machine.kernel.sched.wait(None, timeout_ns=1_000_000)
        call("sendto", FD, b"a", 1, 0, SERVER, 16)
        machine.kernel.sched.wait(None, timeout_ns=1_000_000)
        assert got == [("first", 1)]
        call("sendto", FD, b"bb", 2, 0, SERVER, 16)

    machine.start(first)
    machine.run(send)
    assert got == [("first", 1), ("second", 2)]


def test_waiting_ends_with_its_time() -> None:
    machine, got = SocketMachine(), []

    def what(_task: object, call: Call) -> None:
        socket(call, SERVER)
        timeval = bytes(8) + (2000).to_bytes(8, "little")
        assert call("setsockopt", FD, 1, 20, timeval, 16) == 0
        got.append((call("recvfrom", FD, bytes(8), 8, 0, 0, 0), machine.sim.now_ns))

    machine.run(what)
    ((error, time_ns),) = got
    assert error == -Errno.EAGAIN
    assert 2_000_000 <= time_ns < 2_100_000


def test_a_long_datagram_is_cut() -> None:
    machine, got = SocketMachine(), []

    def what(task: Any, call: Call) -> None:
        socket(call, SERVER)
        for _ in range(2):
            call("sendto", FD, b"0123456789", 10, 0, SERVER, 16)
        machine.kernel.sched.wait(None, timeout_ns=1_000_000)
        sender, size = task.user.alloc(16), task.user.alloc(4, b"\x10\0\0\0")
        place = task.user.alloc(8)
        got.append(call("recvfrom", FD, place, 4, MSG_DONTWAIT, sender, size))
        got.append(task.user.read(place, 8))
        got.append(task.user.read(sender, 16))
        # MSG_TRUNC: the real length
        got.append(call("recvfrom", FD, place, 4, MSG_DONTWAIT | 0x20, 0, 0))

    machine.run(what)
    assert got == [4, b"0123\0\0\0\0", SERVER, 10]


def test_a_port_has_one_owner() -> None:
    machine, got = SocketMachine(), []

    def what(_task: object, call: Call) -> None:
        socket(call, SERVER)
        call("socket", AF_INET, SOCK_DGRAM, 0)
        got.append(call("bind", FD + 1, sockaddr("0.0.0.0", 5000), 16))
        # a socket that could not be bound may be bound elsewhere, once
        got.append(call("bind", FD + 1, sockaddr("0.0.0.0", 5001), 16))
        got.append(call("bind", FD + 1, sockaddr("0.0.0.0", 5002), 16))
        call("close", FD)
        call("socket", AF_INET, SOCK_DGRAM, 0)
        got.append(call("bind", FD, SERVER, 16))

    machine.run(what)
    assert got == [-Errno.EADDRINUSE, 0, -Errno.EINVAL, 0]


def test_a_connected_socket_hears_of_a_closed_port() -> None:
    # udp(7): errors are passed to the user of a connected socket
    machine, got = SocketMachine(), []

    def what(_task: object, call: Call) -> None:
        socket(call)
        assert call("connect", FD, sockaddr("127.0.0.1", 99), 16) == 0
        assert call("sendto", FD, b"x", 1, 0, 0, 0) == 1
        got.append(call("recvfrom", FD, bytes(8), 8, 0, 0, 0))
        got.append(call("recvfrom", FD, bytes(8), 8, MSG_DONTWAIT, 0, 0))

    machine.run(what)
    assert got == [-Errno.ECONNREFUSED, -Errno.EAGAIN]


def test_struct_sock_shows_both_ends() -> None:
    machine, seen = SocketMachine(), []
    kernel = machine.kernel

    def sendmsg(_cpu: object, *args: int) -> int:
        seen.append(args[0])
        sk, mem = args[0], kernel.mem
        seen[-1] = (mem.read(sk + SKC_DADDR, 8), mem.read(sk + SKC_DPORT, 2), mem.load(sk + SKC_NUM, 2),
                    mem.load(sk + SKC_STATE, 1), args[2])  # fmt: skip
        return -Errno.EPERM

    def what(_task: object, call: Call) -> None:
        socket(call, sockaddr("127.0.0.1", 4000))
        call("connect", FD, SERVER, 16)
        kernel.functions.site("udp_sendmsg").poke(sendmsg)
        assert call("sendto", FD, b"four", 4, 0, 0, 0) == -Errno.EPERM

    machine.run(what)
    assert seen == [(b"\x7f\0\0\1\x7f\0\0\1", (5000).to_bytes(2, "big"), 4000, 1, 4)]


def attach(machine: SocketMachine, kind: A, code: str, function: str = "") -> None:
    host = machine.sim.hosts["h"]
    if not function:
        prog = host.bpf.prog_load(P.CGROUP_SOCK_ADDR, encode(assemble(code)), expected_attach_type=kind)
        host.attach_cgroup(prog.fd, "/")
        return
    prog_type = P.LSM if kind == A.LSM_MAC else P.TRACING
    btf_id = vmlinux().find(function, Kind.FUNC) or 0
    prog = host.bpf.prog_load(prog_type, encode(assemble(code)), expected_attach_type=kind, attach_btf_id=btf_id)
    host.bpf.link_create(prog.fd, 0, kind)


def test_programs_of_the_cgroup_choose_addresses() -> None:
    """cgroup/bind4 and cgroup/connect4 change what the task asked for; a refusal is EPERM (facts of "Cgroup")."""
    machine, got = SocketMachine(), []
    # user_port is at 24 of struct bpf_sock_addr, in network order
    attach(machine, A.CGROUP_INET4_BIND, f"r2 = {0x8813}; *(u32 *)(r1 + 24) = r2; r0 = 3; exit")
    attach(machine, A.CGROUP_INET4_CONNECT, f"r2 = {0x8913}; *(u32 *)(r1 + 24) = r2; r0 = 1; exit")
    attach(machine, A.CGROUP_UDP4_SENDMSG, "r0 = 0; exit")

    def what(_task: object, call: Call) -> None:
        # the program allows port 53 to everybody: bit 1 is BIND_NO_CAP_NET_BIND_SERVICE
        socket(call, sockaddr("127.0.0.1", 53))
        got.append(call("connect", FD, sockaddr("127.0.0.1", 80), 16))
        for sock in machine.kernel.net.sockets._udp.values():
            got.extend((each.port, each.peer) for each in sock)
        got.append(call("sendto", FD, b"x", 1, 0, SERVER, 16))

    machine.run(what, uid=1000)
    assert got == [0, (0x1388, (0x7F000001, 0x1389)), -Errno.EPERM]


def test_programs_see_calls_and_refuse_them() -> None:
    """fexit sees the result, the LSM program on socket_sendmsg refuses datagrams of four bytes."""
    machine, got = SocketMachine(), []
    attach(machine, A.TRACE_FENTRY, "r0 = 0; exit", "udp_sendmsg")
    attach(machine, A.TRACE_FEXIT, "r0 = 0; exit", "sock_def_readable")
    code = "r2 = *(u64 *)(r1 + 16); r0 = 0; if w2 != 4 goto out; r0 = -13; out: exit"
    attach(machine, A.LSM_MAC, code, "bpf_lsm_socket_sendmsg")
    receiver(machine, [])

    def what(_task: object, call: Call) -> None:
        socket(call)
        got.extend(call("sendto", FD, data, len(data), 0, SERVER, 16) for data in (b"four", b"three"))

    machine.run(what)
    assert got == [-Errno.EACCES, 5]
    hooks = [run.hook for run in machine.kernel.recorder.runs]
    assert hooks == ["lsm", "lsm", "fentry", "fexit"]


@pytest.mark.parametrize("name", socket_cases.CASES["inet"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("inet", name)
