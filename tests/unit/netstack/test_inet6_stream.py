"""Stream sockets of AF_INET6: what Linux 6.18 answered, which functions it calls, programs of cgroups."""

from ipaddress import IPv6Address
from typing import Any

import pytest
import socket_cases
from socket_machine import SocketMachine, sockaddr

import ebpfsim
from ebpfsim.btf.view import place
from ebpfsim.errnos import Errno
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

MAPPED = "::ffff:127.0.0.1"


def sockaddr6(address: str, port: int) -> bytes:
    return b"\x0a\0" + port.to_bytes(2, "big") + bytes(4) + IPv6Address(address).packed + bytes(4)


@pytest.mark.parametrize("name", socket_cases.CASES["inet6_stream"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("inet6_stream", name)


def attach(machine: SocketMachine, prog_type: ProgType, kind: AttachType, text: str) -> None:
    host = machine.sim.hosts["h"]
    loaded = host.bpf.prog_load(prog_type, encode(assemble(text)), expected_attach_type=kind)
    host.attach_cgroup(loaded.fd, "/")


# struct bpf_sock_addr: user_ip6 at 8, user_port at 24, in network order
def test_programs_of_the_cgroup_choose_addresses() -> None:
    machine, got = SocketMachine(), []
    addr = ProgType.CGROUP_SOCK_ADDR
    attach(machine, addr, AttachType.CGROUP_INET6_BIND, f"r2 = {0x8813}; *(u32 *)(r1 + 24) = r2; r0 = 3; exit")
    attach(machine, addr, AttachType.CGROUP_INET6_CONNECT, f"r2 = {0x8813}; *(u32 *)(r1 + 24) = r2; r0 = 1; exit")
    attach(machine, addr, AttachType.CGROUP_INET6_GETPEERNAME, f"r2 = {0x3905}; *(u32 *)(r1 + 24) = r2; r0 = 1; exit")

    def what(task: Any, call: Any) -> None:
        got.append(call("socket", 10, 1, 0))
        # the port that the program chose is free for everybody (bit 1: BIND_NO_CAP_NET_BIND_SERVICE)
        got.append(call("bind", 3, sockaddr6("::1", 53), 28))
        got.append(call("listen", 3, 1))
        got.append(call("socket", 10, 1, 0))
        got.append(call("connect", 4, sockaddr6("::1", 80), 28))
        room, size = task.user.alloc(28), task.user.alloc(4, b"\x1c\0\0\0")
        for name, fd in (("getsockname", 3), ("getpeername", 4)):
            assert call(name, fd, room, size) == 0
            got.append(task.user.read(room, 28))

    machine.run(what, uid=1000)
    assert got == [3, 0, 0, 4, 0, sockaddr6("::1", 5000), sockaddr6("::1", 1337)]


def test_a_program_refuses_what_was_bound_and_may_refuse_to_connect() -> None:
    machine, got = SocketMachine(), []
    # struct bpf_sock: family at 4, src_ip6 at 28, src_port at 44; only ::1 at port 5001 may be
    refusing = (
        "r0 = 0; r2 = *(u32 *)(r1 + 4); if r2 != 10 goto +5; r2 = *(u32 *)(r1 + 40); if r2 != 0x1000000 goto +3;"
        "r2 = *(u32 *)(r1 + 44); if r2 != 5001 goto +1; r0 = 1; exit"
    )
    attach(machine, ProgType.CGROUP_SOCK, AttachType.CGROUP_INET6_POST_BIND, refusing)
    attach(machine, ProgType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT, "r0 = 0; exit")

    def what(_task: object, call: Any) -> None:
        call("socket", 10, 1, 0)
        got.extend(call("bind", 3, sockaddr6(address, port), 28) for address, port in (("::1", 5000), ("::", 5001)))
        got.append(call("bind", 3, sockaddr6("::1", 5001), 28))
        got.append(call("connect", 3, sockaddr6("::1", 80), 28))
        # what is refused has no port: somebody else may have it
        call("socket", 2, 1, 0)
        got.append(call("bind", 4, sockaddr("127.0.0.1", 5000), 16))

    machine.run(what)
    assert got == [-Errno.EPERM, -Errno.EPERM, 0, -Errno.EPERM, 0]


# tcp_v6_connect() and tcp_v6_syn_recv_sock() call what IPv4 has when the addresses are mapped (net/ipv6/tcp_ipv6.c)
@pytest.mark.parametrize(("address", "of_ipv4"), [("::1", False), (MAPPED, True)])
def test_functions_that_are_called(address: str, of_ipv4: bool) -> None:
    machine = SocketMachine()
    shown: list[int | bytes] = []

    def what(_task: object, call: Any) -> None:
        for name, *args in (
            ("socket", 10, 1, 0), ("bind", 3, sockaddr6("::", 80), 28), ("listen", 3, 1), ("socket", 10, 1, 0),
            ("connect", 4, sockaddr6(address, 80), 28), ("accept", 3, 0, 0),
        ):  # fmt: skip
            assert call(name, *args) >= 0
        for socket in machine.kernel.sockfs._by_address.values():
            if socket.tcp.peer is not None:
                sk, mem = socket.struct.sk, machine.kernel.mem
                common = {name: place("sock_common", f"skc_{name}")[0] for name in ("family", "v6_daddr", "daddr")}
                shown.append(mem.load(sk + common["family"], 2))
                shown.append(mem.read(sk + common["v6_daddr"], 16))
                shown.append(mem.read(sk + common["daddr"], 4))

    machine.watch()
    machine.run(what)
    expected = [
        "inet6_create", "tcp_v6_init_sock", "inet6_bind", "__inet6_bind", "inet_csk_get_port", "inet_listen",
        "inet_stream_connect", "tcp_v6_connect", *(["tcp_v4_connect"] if of_ipv4 else []), "tcp_v6_conn_request",
        *(["tcp_v4_conn_request"] if of_ipv4 else []), "tcp_v6_syn_recv_sock",
        *(["tcp_v4_syn_recv_sock"] if of_ipv4 else []), "inet_accept",
    ]  # fmt: skip
    calls = iter(machine.calls)
    assert all(name in calls for name in expected), machine.calls
    assert of_ipv4 == ("tcp_v4_connect" in machine.calls)
    assert set(shown) == {10, IPv6Address(address).packed, bytes((127, 0, 0, 1)) if of_ipv4 else bytes(4)}


# RFC 6691: the MSS is the MTU less headers without options; with cookies for every SYN (tcp_syncookies=2) as without
@pytest.mark.parametrize("cookies", [1, 2])
@pytest.mark.parametrize(
    ("target", "version", "mss"), [("[fd00::2]:80", 6, 1500 - 60), ("[::ffff:10.0.0.2]:80", 4, 1500 - 40)]
)
def test_packets(target: str, version: int, mss: int, cookies: int) -> None:
    sim = ebpfsim.Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    b.net.sysctls["net.ipv4.tcp_syncookies"] = cookies
    nics = (host.nic("eth0", [f"10.0.0.{number}/24", f"fd00::{number}/64"]) for number, host in ((1, a), (2, b)))
    sim.link(*nics, rate="1Gbit", delay="1ms")
    server = [
        {"socket": ["inet6", "stream"], "as": "l"}, {"bind": ["$l", "[::]:80"]}, {"listen": ["$l", 5]},
        {"accept": ["$l", 0, 0], "as": "c"}, {"recv": ["$c", 100]}, {"send": ["$c", "answer"]},
    ]  # fmt: skip
    client = [
        {"socket": ["inet6", "stream"], "as": "s"}, {"setsockopt": ["$s", 41, 16, "\x07\x00\x00\x00", 4]},
        {"setsockopt": ["$s", 41, 67, "\x20\x00\x00\x00", 4]}, {"connect": ["$s", target]},
        {"send": ["$s", "question"]}, {"recv": ["$s", 100]},
    ]  # fmt: skip
    srv, cli = b.spawn("srv", steps=server), a.spawn("cli", at="3s", steps=client)
    sim.run("4s")
    assert [each.retval for each in srv.results] == [3, 0, 0, 4, 8, 6]
    assert [each.retval for each in cli.results] == [3, 0, 0, 0, 8, 6]
    # both SYN: source host, version, MSS; what the client asked for is of IPv6 only (hop limit 7, traffic class 0x20)
    found, limits = [], set()
    for record in sim.recorder.packets:
        ip = record.data[14:]
        if record.direction != "out" or ip[0] >> 4 not in (4, 6) or ip[9 if ip[0] >> 4 == 4 else 6] != 6:
            continue
        tcp = ip[20:] if ip[0] >> 4 == 4 else ip[40:]
        if record.host == "a":
            limits.add((ip[8], ip[1]) if ip[0] >> 4 == 4 else (ip[7], (ip[0] << 8 | ip[1]) >> 4 & 0xFF))
        if tcp[13] & 2:
            found.append((record.host, ip[0] >> 4, int.from_bytes(tcp[22:24], "big")))
    assert found == [("a", version, mss), ("b", version, mss)]
    assert limits == ({(7, 0x20)} if version == 6 else {(64, 0)})
