"""Sockets of AF_INET6: what Linux 6.18 answered."""

from ipaddress import IPv6Address
from typing import Any

import pytest
import socket_cases
from socket_machine import SocketMachine

from ebpfsim.btf.view import place
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType


@pytest.mark.parametrize("name", socket_cases.CASES["inet6"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("inet6", name)


def attach(machine: SocketMachine, kind: AttachType, text: str) -> None:
    host = machine.sim.hosts["h"]
    loaded = host.bpf.prog_load(ProgType.CGROUP_SOCK_ADDR, encode(assemble(text)), expected_attach_type=kind)
    host.attach_cgroup(loaded.fd, "/")


def sockaddr6(address: str, port: int) -> bytes:
    return b"\x0a\0" + port.to_bytes(2, "big") + bytes(4) + IPv6Address(address).packed + bytes(4)


# struct bpf_sock_addr: user_ip6 at 8, user_port at 24, in network order; what the calls return, and names
def test_programs_of_the_cgroup_choose_addresses() -> None:
    machine, got = SocketMachine(), []
    attach(machine, AttachType.CGROUP_INET6_BIND, f"r2 = {0x8813}; *(u32 *)(r1 + 24) = r2; r0 = 3; exit")
    attach(machine, AttachType.CGROUP_INET6_CONNECT, f"r2 = {0x01000000}; *(u32 *)(r1 + 20) = r2; r0 = 1; exit")
    attach(machine, AttachType.CGROUP_UDP6_SENDMSG, "r0 = 0; exit")
    attach(machine, AttachType.CGROUP_INET6_GETPEERNAME, f"r2 = {0x3905}; *(u32 *)(r1 + 24) = r2; r0 = 1; exit")

    def what(task: Any, call: Any) -> None:
        got.append(call("socket", 10, 2, 0))
        got.append(call("bind", 3, sockaddr6("::1", 53), 28))
        got.append(call("connect", 3, sockaddr6("::", 80), 28))
        got.append(call("sendto", 3, b"x", 1, 0, sockaddr6("::1", 80), 28))
        room, size = task.user.alloc(28), task.user.alloc(4, b"\x1c\0\0\0")
        for name in ("getsockname", "getpeername"):
            assert call(name, 3, room, size) == 0
            got.append(task.user.read(room, 28))

    machine.run(what, uid=1000)
    # the port that the first program chose is free for everybody (bit 1: BIND_NO_CAP_NET_BIND_SERVICE)
    assert got == [3, 0, 0, -Errno.EPERM, sockaddr6("::1", 5000), sockaddr6("::1", 1337)]


def test_struct_sock_shows_addresses() -> None:
    machine, seen = SocketMachine(), list[bytes]()

    def what(_task: object, call: Any) -> None:
        call("socket", 10, 2, 0)
        call("bind", 3, sockaddr6("::", 5000), 28)
        call("connect", 3, sockaddr6("::1", 6000), 28)
        (socket,) = {each.address: each for each in machine.kernel.sockfs._by_address.values()}.values()
        for name in ("skc_family", "skc_num", "skc_dport", "skc_v6_daddr", "skc_v6_rcv_saddr"):
            offset, size = place("sock_common", name)
            seen.append(machine.kernel.mem.read(socket.struct.sk + offset, size))

    machine.run(what)
    one = IPv6Address("::1").packed
    assert seen == [b"\x0a\0", (5000).to_bytes(2, "little"), (6000).to_bytes(2, "big"), one, one]


def test_tcp_and_raw_sockets_are_not_modelled_unless_they_are() -> None:
    with pytest.raises(NotModelled, match="raw sockets over IPv6"):
        SocketMachine().run(lambda _task, call: call("socket", 10, 3, 58))
