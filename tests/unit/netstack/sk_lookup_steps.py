"""Datagrams to sockets that programs choose, for both kernels; as a script, on Linux in a namespace of its own.

A case is a list of steps:
``["socket", NAME, ADDRESS, PORT, reuseport]``, ``["map", INDEX, NAME]`` puts a socket into the
sockmap ``socks``, ``["array", ...]`` into the reuseport_sockarray ``array``, ``["lookup", CODE]`` attaches a program of
sk_lookup, ``["unlink", NUMBER]`` takes one off, ``["reuseport", NAME, TYPE, CODE]`` attaches a program to a group,
``["send", ADDRESS, PORT]`` sends a datagram from 127.0.0.1:4000, ``["close", NAME]``. The answer says who got what.
"""

import errno
import fcntl
import json
import os
import socket
import struct
import sys
import time
from typing import Any

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from netstack.sock import UdpSocket

SO_REUSEPORT, SO_ATTACH_REUSEPORT_EBPF = 15, 52


def answers(bpf: Any, machine: Any, netns_fd: int, steps: list[list[Any]]) -> list[Any]:
    """Do the steps and return what each came to: an errno's name, or for a datagram who has it."""
    maps = {
        "socks": bpf.map_create(MapType.SOCKMAP, 4, 8, 4),
        "array": bpf.map_create(MapType.REUSEPORT_SOCKARRAY, 4, 8, 4),
        "seen": bpf.map_create(MapType.ARRAY, 4, 8, 4),
    }
    links: list[int] = []
    said: list[Any] = []

    def load(kind: ProgType, code: str, expected: int = 0) -> int:
        return int(bpf.prog_load(kind, encode(assemble(code, maps=maps)), expected_attach_type=expected).fd)

    for what, *rest in steps:
        result: Any = "ok"
        try:
            if what == "socket":
                machine.socket(*rest)
            elif what in ("map", "array"):
                key, fd = struct.pack("<I", rest[0]), machine.fd(rest[1])
                bpf.map_update_elem(maps["socks" if what == "map" else what], key, struct.pack("<Q", fd))
            elif what == "lookup":
                prog = load(ProgType.SK_LOOKUP, rest[0], AttachType.SK_LOOKUP)
                links.append(bpf.link_create(prog, netns_fd, AttachType.SK_LOOKUP))
            elif what == "unlink":
                bpf.link_detach(links[rest[0]])
            elif what == "reuseport":
                machine.attach(rest[0], load(ProgType[rest[1]], rest[2]))
            elif what == "close":
                machine.close(rest[0])
            elif what == "send":
                result = machine.send(*rest)
            elif what == "seen":
                words = [bpf.map_lookup_elem(maps["seen"], struct.pack("<I", index)) for index in range(4)]
                result = [int.from_bytes(word, "little") for word in words]
        except KernelError as error:
            result = error.errno_name
        except OSError as error:
            result = errno.errorcode[error.errno or 0]
        said.append(result)
    return said


class Simulated:
    """Sockets of a simulated host."""

    def __init__(self) -> None:
        self.host = Simulation(seed=2).host("h")
        self.socks: dict[str, UdpSocket] = {}
        self.out = self.host.udp_socket("127.0.0.1", 4000)

    def socket(self, name: str, address: str, port: int, reuseport: bool = False) -> None:
        self.socks[name] = self.host.udp_socket(address, port, reuseport=reuseport)

    def fd(self, name: str) -> int:
        return self.host.socket_fd(self.socks[name])

    def attach(self, name: str, prog_fd: int) -> None:
        self.socks[name].attach_reuseport_bpf(self.host.prog(prog_fd))

    def close(self, name: str) -> None:
        self.socks.pop(name).close()

    def send(self, address: str, port: int) -> list[str]:
        before = {name: len(sock.received) for name, sock in self.socks.items()}
        self.out.sendto(b"hello", address, port)
        self.host.sim.run()
        return [name for name in sorted(self.socks) if len(self.socks[name].received) > before[name]]


class Linux:
    """Sockets of this machine."""

    def __init__(self) -> None:
        self.socks: dict[str, socket.socket] = {}
        self.out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.out.bind(("127.0.0.1", 4000))

    def socket(self, name: str, address: str, port: int, reuseport: bool = False) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if reuseport:
            sock.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.setblocking(False)
        self.socks[name] = sock

    def fd(self, name: str) -> int:
        return self.socks[name].fileno()

    def attach(self, name: str, prog_fd: int) -> None:
        self.socks[name].setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, prog_fd)

    def close(self, name: str) -> None:
        self.socks.pop(name).close()

    def send(self, address: str, port: int) -> list[str]:
        self.out.sendto(b"hello", (address, port))
        time.sleep(0.001)
        return [name for name in sorted(self.socks) if self._has(name)]

    def _has(self, name: str) -> bool:
        try:
            return bool(self.socks[name].recv(100))
        except BlockingIOError:
            return False


def on_linux(case: list[list[Any]]) -> Any:
    """Do a case in a process and a namespace of its own."""
    from ebpfsim.live import Bpf
    from ebpfsim.live.sys import libc

    reader, writer = os.pipe()
    bpf = Bpf()
    if not os.fork():
        assert libc().unshare(0x40000000) == 0  # CLONE_NEWNET
        with socket.socket() as control:
            fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
        said = answers(bpf, Linux(), os.open("/proc/self/ns/net", os.O_RDONLY), case)
        os.write(writer, json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    return json.loads(os.read(reader, 1 << 16))


if __name__ == "__main__":
    json.dump([on_linux(case) for case in json.load(sys.stdin)], sys.stdout)
