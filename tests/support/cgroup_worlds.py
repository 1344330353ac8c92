"""Programs of a control group and the sockets of a task in it, of both kernels: what each call came to.

A case has programs, each an attach type and assembly, and calls, each a word and its arguments; sockets have letters.
As a script, on a Linux to be thrown away: ``python cgroup_worlds.py`` prints the answers to CASES.
"""

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from ebpfsim.errnos import ERRNO_NAMES
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType

KINDS = {
    "create": (ProgType.CGROUP_SOCK, A.CGROUP_INET_SOCK_CREATE),
    "release": (ProgType.CGROUP_SOCK, A.CGROUP_INET_SOCK_RELEASE),
    "post_bind": (ProgType.CGROUP_SOCK, A.CGROUP_INET4_POST_BIND),
    "egress": (ProgType.CGROUP_SKB, A.CGROUP_INET_EGRESS),
    "ingress": (ProgType.CGROUP_SKB, A.CGROUP_INET_INGRESS),
    **{
        word: (ProgType.CGROUP_SOCK_ADDR, kind)
        for word, kind in (
            ("bind", A.CGROUP_INET4_BIND), ("connect", A.CGROUP_INET4_CONNECT), ("sendmsg", A.CGROUP_UDP4_SENDMSG),
            ("recvmsg", A.CGROUP_UDP4_RECVMSG), ("peername", A.CGROUP_INET4_GETPEERNAME),
            ("sockname", A.CGROUP_INET4_GETSOCKNAME),
        )
    },
}  # fmt: skip
TYPES = {"udp": (2, "dgram"), "tcp": (1, "stream")}
# bpf_set_retval(), struct bpf_sock_addr: user_ip4 at 4, user_port at 24
RETVAL = "r6 = r1; r1 = {0}; call bpf_set_retval; r0 = {1}; exit"
PORT = "r2 = {0}; *(u32 *)(r1 + 24) = r2; r0 = 1; exit"
ADDRESS = "r2 = {0}; *(u32 *)(r1 + 4) = r2; r0 = 1; exit"
OLDER = "r6 = r1; call bpf_get_retval; r0 = -r0; if r0 == {0} goto yes; r0 = 0; exit; yes: r1 = -{1}; call bpf_set_retval; r0 = 1; exit"  # noqa: E501
PORT_53, LOOP_2 = 0x3500, 0x0200007F
UDP, TCP = ("socket", "a", "udp"), ("socket", "a", "tcp")
# a receiver that was there before the programs
HELLO = [("socket", "a", "udp"), ("sendto", "a", "x", 53), ("recv", "r")]
CONNECTED = [("socket", "a", "udp"), ("connect", "a", 53), ("send", "a", "x"), ("recv", "r"), ("peer", "a")]
BOUND = [("socket", "a", "udp"), ("bind", "a", 7001), ("name", "a"), ("socket", "b", "udp"), ("bind", "b", 7001)]
CASES: dict[str, tuple[list[tuple[str, str]], list[tuple[Any, ...]]]] = {
    "nothing": ([], [*HELLO, *BOUND[1:]]),
    **{f"create {n}": ([("create", f"r0 = {n}; exit")], [UDP, TCP]) for n in (0, 1)},
    "create, another errno": ([("create", RETVAL.format(-13, 0))], [UDP]),
    "create allows with an errno": ([("create", RETVAL.format(-13, 1))], [UDP]),
    **{f"bind {n}": ([("bind", f"r0 = {n}; exit")], BOUND) for n in (0, 1, 2, 3)},
    "bind to another port": ([("bind", PORT.format(PORT_53 + 1))], BOUND[:3]),
    "bind to another address": ([("bind", ADDRESS.format(LOOP_2))], BOUND[:3]),
    **{f"post_bind {n}": ([("post_bind", f"r0 = {n}; exit")], BOUND) for n in (0, 1)},
    **{f"connect {n}": ([("connect", f"r0 = {n}; exit")], CONNECTED) for n in (0, 1)},
    "connect, another errno": ([("connect", RETVAL.format(-111, 0))], CONNECTED),
    "connect of TCP": ([("connect", "r0 = 0; exit")], [TCP, ("connect", "a", 53)]),
    "connect to another port": (
        [("connect", PORT.format(PORT_53))],
        [UDP, ("connect", "a", 99), ("send", "a", "x"), ("recv", "r"), ("peer", "a")]),
    "and the name given back": (
        [("connect", PORT.format(PORT_53)), ("peername", PORT.format(0x6300))],
        [UDP, ("connect", "a", 99), ("send", "a", "x"), ("recv", "r"), ("peer", "a")]),
    "names that are refused": ([("sockname", "r0 = 1; exit")], [UDP, ("bind", "a", 7002), ("name", "a")]),
    "another name": ([("sockname", PORT.format(PORT_53))], [UDP, ("bind", "a", 7002), ("name", "a")]),
    **{f"sendmsg {n}": ([("sendmsg", f"r0 = {n}; exit")], HELLO) for n in (0, 1)},
    "sendmsg of connected sockets": ([("sendmsg", "r0 = 0; exit")], CONNECTED),
    "sendmsg to another port": (
        [("sendmsg", PORT.format(PORT_53))], [UDP, ("sendto", "a", "x", 99), ("recv", "r")]),
    "sendmsg, another errno": ([("sendmsg", RETVAL.format(-22, 0))], HELLO),
    "where it came from": ([("recvmsg", PORT.format(PORT_53))], [UDP, ("bind", "a", 7003), ("sendto", "r", "y", 7003),
        ("from", "a")]),
    **{f"egress {n}": ([("egress", f"r0 = {n}; exit")], HELLO) for n in (0, 1, 2, 3)},
    **{f"ingress {n}": ([("ingress", f"r0 = {n}; exit")],
        [UDP, ("bind", "a", 7004), ("sendto", "r", "y", 7004), ("recv", "a")]) for n in (0, 1)},
    "two programs, both asked": ([("connect", "r0 = 0; exit"), ("connect", OLDER.format(1, 13))], CONNECTED[:2]),
    "two programs, the later one refuses": (
        [("connect", RETVAL.format(-13, 1)), ("connect", "r0 = 0; exit")], CONNECTED[:2]),
    "release": ([("release", "r0 = 0; exit")], [UDP, ("close", "a"), UDP]),
}  # fmt: skip


class Linux:
    """A control group of this machine, which is thrown away, and sockets of this process."""

    def __init__(self) -> None:
        from ebpfsim.live import Bpf

        self.bpf, self.socks, self.links = Bpf(confined=False), dict[str, socket.socket](), list[int]()
        self.path = Path("/sys/fs/cgroup/ebpfsim_worlds")
        self.path.mkdir(exist_ok=True)
        self.socks["r"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socks["r"].bind(("127.0.0.1", 53))
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def attach(self, kind: str, text: str) -> None:
        """Attach a program to the group."""
        prog_type, attach_type = KINDS[kind]
        fd = self.bpf.prog_load(prog_type, encode(assemble(text)), expected_attach_type=attach_type).fd
        group = os.open(self.path, os.O_RDONLY)
        self.links.append(self.bpf.link_create(fd, group, attach_type))
        os.close(group)

    def call(self, word: str, name: str, *args: Any) -> Any:
        """Make a call: what it gives, or an errno."""
        try:
            return self._call(word, name, args)
        except OSError as error:
            return ERRNO_NAMES[error.errno or 0]

    def _call(self, word: str, name: str, args: tuple[Any, ...]) -> Any:
        if word == "socket":
            self.socks[name] = socket.socket(socket.AF_INET, TYPES[args[0]][0])
            self.socks[name].setblocking(False)
            return "ok"
        sock = self.socks[name]
        match word:
            case "bind" | "connect":
                getattr(sock, word)(("127.0.0.1", args[0]))
            case "send":
                return sock.send(args[0].encode())
            case "sendto":
                return sock.sendto(args[0].encode(), ("127.0.0.1", args[1]))
            case "recv":
                time.sleep(0.01)
                return sock.recv(99, socket.MSG_DONTWAIT).decode()
            case "from":
                time.sleep(0.01)
                return list(sock.recvfrom(99)[1])
            case "peer":
                return list(sock.getpeername())
            case "name":
                return list(sock.getsockname())
            case "close":
                sock.close()
        return "ok"

    def end(self) -> None:
        """Leave the group, close everything."""
        for link in self.links:
            os.close(link)
        Path("/sys/fs/cgroup/cgroup.procs").write_text(str(os.getpid()))
        for sock in self.socks.values():
            with contextlib.suppress(OSError):
                sock.close()
        self.path.rmdir()


class Simulated:
    """A control group of a host, and the sockets of a task in it."""

    def __init__(self, host: Any) -> None:
        self.host, self.socks = host, dict[str, int]()
        self.task, self.other = host.spawn("t", cgroup="/w"), host.spawn("r")
        self.socks["r"] = host.syscall(self.other, "socket", "inet", "dgram")
        assert host.syscall(self.other, "bind", self.socks["r"], "127.0.0.1:53") == 0

    def attach(self, kind: str, text: str) -> None:
        """Attach a program to the group."""
        prog_type, attach_type = KINDS[kind]
        fd = self.host.bpf.prog_load(prog_type, encode(assemble(text)), expected_attach_type=attach_type).fd
        self.host.attach_cgroup(fd, "/w")

    def call(self, word: str, name: str, *args: Any) -> Any:
        """Make a call: what it gives, or an errno."""
        task = self.other if name == "r" else self.task
        fd = self.socks.get(name, -1)

        def ask(call: str, *rest: Any) -> Any:
            ret = self.host.syscall(task, call, *rest)
            self.host.sim.run(self.host.sim.now_ns + 1_000_000)
            return ERRNO_NAMES[-ret] if ret < 0 else ret

        match word:
            case "socket":
                ret = ask("socket", "inet", TYPES[args[0]][1])
                self.socks[name] = ret if isinstance(ret, int) else -1
                return ret if isinstance(ret, str) else "ok"
            case "bind" | "connect":
                return ask(word, fd, f"127.0.0.1:{args[0]}") or "ok"
            case "send":
                return ask("send", fd, args[0], "MSG_DONTWAIT")
            case "sendto":
                return ask("sendto", fd, args[0], f"127.0.0.1:{args[1]}", "MSG_DONTWAIT")
            case "close":
                return ask("close", fd) or "ok"
        return self._told(word, fd, task, ask)

    def _told(self, word: str, fd: int, task: Any, ask: Any) -> Any:
        # what comes back in the task's memory
        user = task.task.user
        room, name, size = user.alloc(99), user.alloc(16), user.alloc(4, (16).to_bytes(4, "little"))
        if word in ("recv", "from"):
            ret = ask("recvfrom", fd, room, 99, 0x40, name, size)
        else:
            ret = ask({"peer": "getpeername", "name": "getsockname"}[word], fd, name, size)
        data, address = user.read(room, 99), user.read(name, 16)
        for place in (room, name, size):
            user.unmap(place)
        if isinstance(ret, str):
            return ret
        if word == "recv":
            return data[:ret].decode()
        return [".".join(map(str, address[4:8])), int.from_bytes(address[2:4], "big")]

    def end(self) -> None:
        """Nothing: the simulation goes."""


def play(world: Any, name: str) -> list[Any]:
    """Return what the calls of a case came to."""
    programs, calls = CASES[name]
    try:
        for program in programs:
            world.attach(*program)
        return [world.call(*call) for call in calls]
    finally:
        world.end()


if __name__ == "__main__":
    json.dump({name: play(Linux(), name) for name in CASES}, sys.stdout)
