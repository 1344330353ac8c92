"""Two TCP connections and a sockmap, of both kernels: who sends what, and what arrives where.

The ends of the connections are ``a`` and ``A``, ``b`` and ``B``. A case has programs in assembly by what they are
attached as, the ends that join the map (by index), and actions. ``{map}`` in a program is the map's descriptor.
"""

import contextlib
import socket
import time
from typing import Any

from ebpfsim.errnos import ERRNO_NAMES
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import BpfCmd, MapType, ProgType
from ebpfsim.uapi.bpf_attr import ATTRS

KINDS = {
    "msg": (ProgType.SK_MSG, A.SK_MSG_VERDICT),
    "parser": (ProgType.SK_SKB, A.SK_SKB_STREAM_PARSER),
    "stream": (ProgType.SK_SKB, A.SK_SKB_STREAM_VERDICT),
    "verdict": (ProgType.SK_SKB, A.SK_SKB_VERDICT),
}
ROOM = 65536


class World:
    """What both have in common."""

    def __init__(self, bpf: Any) -> None:
        self.bpf = bpf
        self.map = bpf.map_create(MapType.SOCKMAP, 4, 4, 4)
        self.counter = bpf.map_create(MapType.ARRAY, 4, 8, 4)

    def attach(self, programs: dict[str, str]) -> None:
        """Load programs and attach them to the map."""
        for name, text in programs.items():
            prog_type, kind = KINDS[name]
            code = encode(assemble(text.format(map=self.map, counter=self.counter)))
            fd = self.bpf.prog_load(prog_type, code, expected_attach_type=kind).fd
            self.prog_attach(fd, kind)

    def prog_attach(self, fd: int, kind: int) -> None:
        self.bpf.prog_attach(fd, self.map, kind)

    def counts(self) -> list[int]:
        """Return what programs counted."""
        rows = [self.bpf.map_lookup_elem(self.counter, n.to_bytes(4, "little")) for n in range(4)]
        return [int.from_bytes(row, "little") for row in rows]


class Live(World):
    """Sockets of this process."""

    def __init__(self) -> None:
        from ebpfsim.live import Bpf

        super().__init__(Bpf())
        self.ends: dict[str, socket.socket] = {}
        for client, server in ("aA", "bB"):
            listener = socket.create_server(("127.0.0.1", 0))
            self.ends[client] = socket.create_connection(listener.getsockname())
            self.ends[server], _ = listener.accept()
            listener.close()
        for end in self.ends.values():
            end.setblocking(False)

    def prog_attach(self, fd: int, kind: int) -> None:
        """Attach to a map of our own, which the class of the live kernel does not do."""
        from ebpfsim.live.sys import bpf_bytes

        attr = ATTRS[BpfCmd.PROG_ATTACH].pack({"attach_bpf_fd": fd, "target_fd": self.map, "attach_type": kind})
        bpf_bytes(BpfCmd.PROG_ATTACH, bytes(attr))

    def join(self, end: str, index: int) -> str:
        """Put an end into the map."""
        try:
            self.bpf.map_update_elem(
                self.map, index.to_bytes(4, "little"), self.ends[end].fileno().to_bytes(4, "little")
            )
        except KernelError as error:
            return error.errno_name
        return "ok"

    def leave(self, index: int) -> str:
        """Take an end out of the map."""
        self.bpf.map_delete_elem(self.map, index.to_bytes(4, "little"))
        return "ok"

    def send(self, end: str, data: bytes) -> int | str:
        """Send, and wait until it is where it goes."""
        try:
            return self.ends[end].send(data)
        except OSError as error:
            return ERRNO_NAMES[error.errno or 0]
        finally:
            time.sleep(0.02)

    def recv(self, end: str) -> bytes | str:
        """Receive what is there."""
        try:
            return self.ends[end].recv(ROOM)
        except OSError as error:
            return ERRNO_NAMES[error.errno or 0]

    def shut(self, end: str) -> str:
        """Close one direction."""
        self.ends[end].shutdown(socket.SHUT_WR)
        time.sleep(0.02)
        return "ok"

    def close(self) -> None:
        """Close everything."""
        for end in self.ends.values():
            with contextlib.suppress(OSError):
                end.close()


class Simulated(World):
    """Sockets of a task of a host."""

    def __init__(self, host: Any) -> None:
        super().__init__(host.bpf)
        self.host = host
        self.task = host.spawn("t")
        self.ends: dict[str, int] = {}
        for port, (client, server) in enumerate(("aA", "bB"), 5000):
            listener = self.call("socket", "inet", "stream")
            self.call("bind", listener, f"127.0.0.1:{port}")
            self.call("listen", listener, 5)
            self.ends[client] = self.call("socket", "inet", "stream")
            assert self.call("connect", self.ends[client], f"127.0.0.1:{port}") == 0
            self.ends[server] = self.call("accept", listener, 0, 0)
            self.call("close", listener)
        number = host.bpf.obj_get_info_by_fd(self.map).id
        self.map_fd = self.call("bpf", "MAP_GET_FD_BY_ID", {"id": number})

    def call(self, name: str, *args: Any) -> int:
        """Make a system call and let its consequences happen."""
        ret: int = self.host.syscall(self.task, name, *args)
        self.host.sim.run(self.host.sim.now_ns + 20_000_000)
        return ret

    def said(self, ret: int) -> Any:
        """Return a result or an errno by its name."""
        return ERRNO_NAMES[-ret] if ret < 0 else ret

    def join(self, end: str, index: int) -> Any:
        """Put an end into the map."""
        fields = {"map_fd": self.map_fd, "key": index, "value": self.ends[end]}
        return self.said(self.call("bpf", "MAP_UPDATE_ELEM", fields)) or "ok"

    def leave(self, index: int) -> Any:
        """Take an end out of the map."""
        return self.said(self.call("bpf", "MAP_DELETE_ELEM", {"map_fd": self.map_fd, "key": index})) or "ok"

    def send(self, end: str, data: bytes) -> Any:
        """Send, and wait until it is where it goes."""
        return self.said(self.call("send", self.ends[end], data, "MSG_DONTWAIT"))

    def recv(self, end: str) -> Any:
        """Receive what is there."""
        user = self.task.task.user
        room = user.alloc(ROOM)
        ret = self.host.syscall(self.task, "recvfrom", self.ends[end], room, ROOM, 0x40, 0, 0)
        data = user.read(room, max(ret, 0))
        user.unmap(room)
        return ERRNO_NAMES[-ret] if ret < 0 else data

    def shut(self, end: str) -> str:
        """Close one direction."""
        self.call("shutdown", self.ends[end], 1)
        return "ok"

    def close(self) -> None:
        """Nothing: the simulation goes."""


def play(world: Any, case: dict[str, Any]) -> list[Any]:
    """Return what the actions of a case came to, and the counters of its programs."""
    try:
        world.attach(case["programs"])
        said: list[Any] = [world.join(end, index) for index, end in enumerate(case["members"])]
        said += [getattr(world, what)(*args) for what, *args in case["actions"]]
        return [*said, world.counts()]
    finally:
        world.close()
