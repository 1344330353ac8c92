"""Steps on the qdisc of the loopback device, for both kernels; as a script, on Linux in a namespace of its own.

A step is what to do and its arguments; an answer is ``ok``, an errno with the kernel's words behind it,
or what ``show`` found: chain, priority, handle, protocol, whether direct action, class id and program of each filter.
"""

import contextlib
import json
import os
import socket
import sys
from struct import pack, unpack_from
from typing import Any

from ebpfsim.errnos import errno_name
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from hooks.tc import ClsBpf, check_request

LO = 1
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 10, 11
NEWQDISC, DELQDISC, NEWTFILTER, DELTFILTER, GETTFILTER = 36, 37, 44, 45, 46
REQUEST, ACK, EXCL, REPLACE, CREATE, DUMP = 1, 4, 0x200, 0x100, 0x400, 0x300
ACK_TLVS = 0x200
KIND, OPTIONS, CHAIN = 1, 2, 11
BPF_CLASSID, BPF_FD, BPF_NAME, BPF_FLAGS, BPF_ID = 3, 6, 7, 8, 11
CLSACT = 0xFFFF_FFF1
PARENTS = {"ingress": 0xFFFF_FFF2, "egress": 0xFFFF_FFF3}
PROTOCOLS = {"": 0, "all": 3, "ip": 0x800, "ipv6": 0x86DD}
FLAGS = {"add": CREATE | EXCL, "replace": CREATE, "change": 0}
PROGRAM_TYPES = {"P": ProgType.SCHED_CLS, "A": ProgType.SCHED_ACT, "X": ProgType.XDP}


def load(bpf: Any, name: str) -> int:
    """Load a program; the first letter of its name says its type."""
    fd: int = bpf.prog_load(PROGRAM_TYPES[name[0]], encode(assemble("r0 = 0; exit")), name=name).fd
    return fd


def attribute(kind: int, data: bytes) -> bytes:
    """Return one netlink attribute."""
    return pack("<HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes of a message."""
    found, off = {}, 0
    while off + 4 <= len(data):
        length, kind = unpack_from("<HH", data, off)
        found[kind & 0x3FFF] = data[off + 4 : off + length]
        off += (length + 3) & ~3
    return found


class Linux:
    """The kernel of this machine, by netlink."""

    def __init__(self, bpf: Any) -> None:
        self.bpf = bpf
        self.progs: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self.sock.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self.sock.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)

    def prog(self, name: str) -> int:
        """Return the descriptor of a program."""
        if name not in self.progs:
            fd = self.progs[name] = load(self.bpf, name)
            self.names[self.bpf.obj_get_info_by_fd(fd).id] = name
        return self.progs[name]

    def ask(self, kind: int, flags: int, handle: int, parent: int, info: int, tail: bytes) -> bytes:
        """Send a request and return the answer, all of it for a dump."""
        body = pack("<BxxxiIII", 0, LO, handle, parent, info) + tail
        self.sock.send(pack("<IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body)
        found = self.sock.recv(1 << 18)
        while flags & DUMP == DUMP and not _ends(found):
            found += self.sock.recv(1 << 18)
        return found

    def change(self, *request: Any) -> str:
        """Send a request that changes something and return what the kernel said."""
        answer = self.ask(*request)
        size, _, flags, _, _, error = unpack_from("<IHHIIi", answer)
        words = attributes(answer[36:size]).get(1, b"") if flags & ACK_TLVS else b""
        text = "ok" if not error else errno_name(-error)
        return f"{text}: {words.rstrip(bytes(1)).decode()}" if words and error else text

    def qdisc_add(self, kind: str) -> str:
        """``tc qdisc add``."""
        handle, parent = 0xFFFF_0000, CLSACT
        return self.change(NEWQDISC, ACK | CREATE | EXCL, handle, parent, 0, attribute(KIND, kind.encode() + b"\0"))

    def qdisc_del(self, kind: str) -> str:
        """``tc qdisc del``."""
        return self.change(DELQDISC, ACK, 0xFFFF_0000, CLSACT, 0, attribute(KIND, kind.encode() + b"\0"))

    def filter(self, how: str, direction: str, prog: str, given: dict[str, Any]) -> str:
        """``tc filter add``, ``replace`` and ``change``."""
        options = b""
        if given.get("classid"):
            options += attribute(BPF_CLASSID, pack("<I", given["classid"]))
        options += attribute(BPF_FD, pack("<I", self.prog(prog))) + attribute(BPF_NAME, prog.encode() + b"\0")
        options += attribute(BPF_FLAGS, pack("<I", int(given.get("da", True))))
        tail = attribute(KIND, b"bpf\0") + attribute(OPTIONS, options)
        if "chain" in given:
            tail += attribute(CHAIN, pack("<I", given["chain"]))
        info = given.get("pref", 0) << 16 | socket.htons(PROTOCOLS[given.get("protocol", "all")])
        return self.change(NEWTFILTER, ACK | FLAGS[how], given.get("handle", 0), PARENTS[direction], info, tail)

    def delete(self, direction: str, given: dict[str, Any]) -> str:
        """``tc filter del``."""
        tail = attribute(CHAIN, pack("<I", given["chain"])) if "chain" in given else b""
        if given.get("pref"):
            tail = attribute(KIND, b"bpf\0") + tail
        info = given.get("pref", 0) << 16 | socket.htons(PROTOCOLS[given.get("protocol", "")])
        return self.change(DELTFILTER, ACK, given.get("handle", 0), PARENTS[direction], info, tail)

    def show(self, direction: str) -> list[Any]:
        """``tc filter show``."""
        answer, found = self.ask(GETTFILTER, DUMP, 0, PARENTS[direction], 0, b""), []
        off = 0
        while off < len(answer):
            size, kind = unpack_from("<IH", answer, off)
            if kind != NEWTFILTER:
                break
            handle, _, info = unpack_from("<III", answer, off + 24)
            known = attributes(answer[off + 36 : off + size])
            if handle:
                bpf = attributes(known[OPTIONS])
                flags, classid = (unpack_from("<I", bpf.get(which, bytes(4)))[0] for which in (BPF_FLAGS, BPF_CLASSID))
                name, chain = self.names[unpack_from("<I", bpf[BPF_ID])[0]], unpack_from("<I", known[CHAIN])[0]
                protocol = socket.ntohs(info & 0xFFFF)
                found.append([chain, info >> 16, handle, protocol, bool(flags & 1), classid, name])
            off += (size + 3) & ~3
        return sorted(found, key=lambda each: each[0])

    def end(self) -> None:
        """Clear up."""
        for kind in ("clsact", "ingress"):
            self.qdisc_del(kind)
        for fd in self.progs.values():
            os.close(fd)
        self.sock.close()


def _ends(messages: bytes) -> bool:
    off = 0
    while off < len(messages):
        size, kind = unpack_from("<IH", messages, off)
        if kind in (2, 3):
            return True
        off += (size + 3) & ~3
    return False


class Simulated:
    """A simulated host, by its methods."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.progs: dict[str, int] = {}

    def prog(self, name: str) -> int:
        """Return the descriptor of a program."""
        if name not in self.progs:
            self.progs[name] = load(self.host.bpf, name)
        return self.progs[name]

    def qdisc_add(self, kind: str) -> str:
        """``tc qdisc add``."""
        return said(self.host.tc_qdisc_add, "lo", kind)

    def qdisc_del(self, kind: str) -> str:
        """``tc qdisc del``."""
        return said(self.host.tc_qdisc_del, "lo", kind)

    def filter(self, how: str, direction: str, prog: str, given: dict[str, Any]) -> str:
        """``tc filter add``, ``replace`` and ``change``."""
        qdisc = self.host.device("lo").qdisc
        if qdisc is None:
            if how == "change" and not given.get("pref"):
                return said(check_request, "tc", pref=0, deletes=False, create=False)
            return said(self.host.tc_filter_add, "lo", direction, self.prog(prog))
        more = {key: given[key] for key in ("chain", "classid") if key in given}
        more["protocol"] = PROTOCOLS[given.get("protocol", "all")]
        loaded, handle, pref = self.host.prog(self.prog(prog)), given.get("handle", 0), given.get("pref", 0)
        new = ClsBpf(loaded, handle, pref, direct_action=given.get("da", True), **more)
        return said(qdisc.add, direction, new, create=how != "change", replace=how != "add")

    def delete(self, direction: str, given: dict[str, Any]) -> str:
        """``tc filter del``."""
        return said(self.host.tc_filter_del, "lo", direction, **given)

    def show(self, direction: str) -> list[Any]:
        """``tc filter show``."""
        qdisc = self.host.device("lo").qdisc
        found = qdisc.side(direction).filters() if qdisc is not None else []
        return [[f.chain, f.pref, f.handle, f.protocol, f.direct_action, f.classid, f.prog.name] for f in found]

    def end(self) -> None:
        """Clear up."""
        for kind in ("clsact", "ingress"):
            with contextlib.suppress(KernelError):
                self.host.tc_qdisc_del("lo", kind)


def said(call: Any, *args: Any, **more: Any) -> str:
    """Return ``ok``, or the refusal of a call."""
    try:
        call(*args, **more)
    except KernelError as error:
        return f"{error.errno_name}: {error.detail}" if error.detail else error.errno_name
    return "ok"


def answers(kernel: Any, steps: list[list[Any]]) -> list[Any]:
    """Do steps on a fresh device."""
    found = [getattr(kernel, step[0])(*step[1:]) for step in steps]
    kernel.end()
    return found


if __name__ == "__main__":
    from ebpfsim.live import Bpf
    from ebpfsim.live.sys import libc

    live = Bpf()
    assert libc().unshare(0x40000000) == 0  # CLONE_NEWNET
    json.dump([answers(Linux(live), steps) for steps in json.load(sys.stdin)], sys.stdout)
