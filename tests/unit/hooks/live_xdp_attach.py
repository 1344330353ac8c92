"""Ask the running kernel the steps of test_xdp.py; a script for ``unshare -n``, with groups of steps as JSON on stdin.

Each group gets a veth pair ``v``/``w`` and a loopback device of its own. Writes one list of answers a group.
"""

import ctypes
import errno
import json
import os
import socket
import struct
import subprocess
import sys

BPF_PROG_LOAD, BPF_OBJ_GET_INFO_BY_FD, BPF_LINK_CREATE, BPF_LINK_UPDATE, BPF_LINK_DETACH = 5, 15, 28, 29, 34
BPF_XDP, BPF_F_REPLACE = 37, 4
SYS_BPF = 321
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 10, 11
RTM_SETLINK, IFLA_XDP, NLM_F_REQUEST_ACK, NLM_F_ACK_TLVS = 19, 43, 5, 0x200
IFLA_XDP_FD, IFLA_XDP_FLAGS, IFLA_XDP_EXPECTED_FD = 1, 3, 8

# name: (program type, expected attach type, flags)
PROGRAMS = {
    "P": (6, 0, 0),
    "Q": (6, 0, 0),
    "D": (6, 33, 0),
    "C": (6, 35, 0),
    "S": (1, 0, 0),
    "F": (6, 0, 32),
    "X": (6, 37, 0),
}

libc = ctypes.CDLL(None, use_errno=True)
kept = []


def address(data: bytes) -> int:
    kept.append(ctypes.create_string_buffer(data, max(len(data), 1)))
    return ctypes.addressof(kept[-1])


def bpf(cmd: int, attr: bytes) -> int:
    done = libc.syscall(SYS_BPF, cmd, ctypes.c_char_p(attr), len(attr))
    return done if done >= 0 else -ctypes.get_errno()


def text(done: int) -> str:
    return "ok" if done >= 0 else errno.errorcode[-done].replace("ENOTSUP", "EOPNOTSUPP")


def load(name: str) -> int:
    prog_type, attach_type, flags = PROGRAMS[name]
    insns = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    attr = struct.pack("<IIQQIIQII", prog_type, 2, address(insns), address(b"GPL\0"), 0, 0, 0, 0, flags)
    return bpf(BPF_PROG_LOAD, attr + struct.pack("<16sII", name.encode(), 0, attach_type))


def info(fd: int) -> bytes:
    out = ctypes.create_string_buffer(256)
    assert bpf(BPF_OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, 256, ctypes.addressof(out))) == 0
    return out.raw


def netlink(ifindex: int, fd: int, flags: int, expected: int | None) -> str:
    def attribute(kind: int, data: bytes) -> bytes:
        return struct.pack("<HH", 4 + len(data), kind) + data

    xdp = attribute(IFLA_XDP_FD, struct.pack("<i", fd)) + attribute(IFLA_XDP_FLAGS, struct.pack("<I", flags))
    if expected is not None:
        xdp += attribute(IFLA_XDP_EXPECTED_FD, struct.pack("<i", expected))
    body = struct.pack("<BxHiII", 0, 0, ifindex, 0, 0) + attribute(IFLA_XDP | 0x8000, xdp)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        sock.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        sock.send(struct.pack("<IHHII", 16 + len(body), RTM_SETLINK, NLM_F_REQUEST_ACK, 1, 0) + body)
        answer = sock.recv(65536)
    size, _, answer_flags, _, _, error = struct.unpack_from("<IHHIIi", answer)
    said = ""
    off = 36  # behind the header, the error and, as NETLINK_CAP_ACK is set, the header of the request
    while answer_flags & NLM_F_ACK_TLVS and off < size:
        length, kind = struct.unpack_from("<HH", answer, off)
        if kind == 1:
            said = ": " + answer[off + 4 : off + length].rstrip(b"\0").decode()
        off += (length + 3) & ~3
    return text(error) + said


class Group:
    """Devices, programs and links of one group of steps."""

    def __init__(self) -> None:
        subprocess.run(
            "ip link add v type veth peer name w; ip link set v up; ip link set w up", shell=True, check=True
        )
        self.progs = {name: load(name) for name in PROGRAMS}
        self.ids = {struct.unpack_from("<I", info(fd), 4)[0]: name for name, fd in self.progs.items()}
        self.links: dict[str, int] = {}

    def link(self, name: str, dev: str, prog: str, flags: int) -> str:
        ifindex = socket.if_nametoindex(dev)
        done = bpf(BPF_LINK_CREATE, struct.pack("<IIII", self.progs[prog], ifindex, BPF_XDP, flags))
        if done >= 0:
            self.links[name] = done
        return text(done)

    def update(self, name: str, prog: str, old: str | None) -> str:
        flags, old_fd = (BPF_F_REPLACE, self.progs[old]) if old else (0, 0)
        return text(bpf(BPF_LINK_UPDATE, struct.pack("<IIII", self.links[name], self.progs[prog], flags, old_fd)))

    def detach(self, name: str) -> str:
        return text(bpf(BPF_LINK_DETACH, struct.pack("<I", self.links[name])))

    def close(self, name: str) -> str:
        os.close(self.links.pop(name))
        return "ok"

    def netlink(self, dev: str, prog: str | None, flags: int, expected: str | None = "") -> str:
        fds = {None: -1, **self.progs}
        return netlink(socket.if_nametoindex(dev), fds[prog], flags, None if expected == "" else fds[expected])

    def mtu(self, mtu: int) -> str:
        subprocess.run(["ip", "link", "set", "w", "mtu", str(mtu)], check=True)
        return "ok"

    def remove(self) -> str:
        subprocess.run(["ip", "link", "del", "v"], check=True)
        return "ok"

    def info(self, name: str) -> str:
        _, _, prog_id, _, ifindex = struct.unpack_from("<IIIII", info(self.links[name]))
        return f"{self.ids[prog_id]} on {socket.if_indextoname(ifindex) if ifindex else 'nothing'}"

    def id_after(self, name: str, other: str) -> str:
        first, second = (struct.unpack_from("<I", info(self.links[link]), 4)[0] for link in (other, name))
        return str(second - first)

    def state(self, dev: str) -> str:
        shown = subprocess.run(["ip", "-j", "link", "show", dev], check=True, capture_output=True).stdout
        xdp = json.loads(shown)[0].get("xdp")
        return f"{self.ids[xdp['prog']['id']]} {['none', 'native', 'generic'][xdp['mode']]}" if xdp else "none"

    def end(self) -> None:
        for fd in (*self.links.values(), *self.progs.values()):
            os.close(fd)
        netlink(1, -1, 0, None)
        subprocess.run("ip link del v 2>/dev/null", shell=True, check=False)


def answers(steps: list[list[object]]) -> list[str]:
    """Do steps on fresh devices; a link that an earlier step did not make is an answer, too."""
    group, said = Group(), []
    for name, *args in steps:
        try:
            said.append(getattr(group, name)(*args))
        except KeyError as error:
            said.append(f"no {error}")
    group.end()
    return said


if __name__ == "__main__":
    json.dump([answers(steps) for steps in json.load(sys.stdin)], sys.stdout)
