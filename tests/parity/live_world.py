"""Network namespaces of the kernel that runs here, for tests that compare it with the simulated one.

Every namespace is made for one test and removed after it; nothing outside is touched. Root and iproute2 are needed.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ebpfsim.live import Bpf
from ebpfsim.loader import Object, open_object
from ebpfsim.uapi.bpf import AttachType

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID = 1 << 4, 1 << 6
SO_RCVBUFFORCE = 33
SIOCETHTOOL, ETHTOOL_GSTRINGS, ETHTOOL_GSTATS, ETHTOOL_GSSET_INFO = 0x8946, 0x1B, 0x1D, 0x37
ETHTOOL_STXCSUM = 0x17
ETH_SS_STATS = 1
ATTACH = {"xdp": AttachType.XDP, "tcx_ingress": AttachType.TCX_INGRESS, "tcx_egress": AttachType.TCX_EGRESS}

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Whether namespaces can be made here."""
    return os.geteuid() == 0 and any(Path(folder, "ip").exists() for folder in os.environ["PATH"].split(":"))


class LiveWorld:
    """Namespaces by name; devices are NAMESPACE/DEVICE."""

    def __init__(self) -> None:
        self.prefix = f"ebpfsim{os.getpid()}-"
        self.namespaces: list[str] = []
        self.bpf = Bpf()
        self.objects: list[Object] = []
        self.links: list[int] = []
        self.captures: list[Capture] = []
        self.settled = False
        self._cpus = os.sched_getaffinity(0)
        # packets that one CPU sends arrive in their order
        os.sched_setaffinity(0, {min(self._cpus)})

    def close(self) -> None:
        for capture in self.captures:
            capture.close()
        for fd in self.links:
            os.close(fd)
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", self.prefix + name], check=False)
        os.sched_setaffinity(0, self._cpus)

    def ip(self, netns: str, *words: str) -> str:
        command = ["ip", "-n", self.prefix + netns, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def netns(self, name: str, sysctls: Mapping[str, int] | None = None) -> None:
        subprocess.run(["ip", "netns", "add", self.prefix + name], check=True)
        self.namespaces.append(name)
        quiet = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
        for sysctl, value in {**quiet, **(sysctls or {})}.items():
            with self.inside(name):
                Path("/proc/sys", *sysctl.split(".")).write_text(str(value))
        self.ip(name, "link", "set", "lo", "up")

    def veth(self, a: str, b: str, mac: str, peer_mac: str, mtu: int = 1500) -> None:
        (ns, dev), (peer_ns, peer) = a.split("/"), b.split("/")
        self.ip(
            ns, "link", "add", dev, "address", mac, "mtu", str(mtu), "type", "veth", "peer", "name", peer,
            "address", peer_mac, "mtu", str(mtu), "netns", self.prefix + peer_ns,
        )  # fmt: skip
        self.up(a)
        self.up(b)

    def up(self, device: str) -> None:
        netns, dev = device.split("/")
        self.ip(netns, "link", "set", dev, "up")

    def address(self, device: str, address: str) -> None:
        netns, dev = device.split("/")
        self.ip(netns, "addr", "add", address, "dev", dev)

    def neigh(self, device: str, address: str, mac: str) -> None:
        netns, dev = device.split("/")
        self.ip(netns, "neigh", "add", address, "lladdr", mac, "dev", dev, "nud", "permanent")

    def route(self, netns: str, to: str, via: str) -> None:
        self.ip(netns, "route", "add", to, "via", via)

    def bridge(self, device: str, ports: Sequence[str], mac: str) -> None:
        netns, dev = device.split("/")
        with self.inside(netns), contextlib.suppress(FileNotFoundError):
            # br_netfilter, where it is loaded, looks at IP headers of what is bridged
            for table in ("iptables", "ip6tables", "arptables"):
                Path(f"/proc/sys/net/bridge/bridge-nf-call-{table}").write_text("0")
        self.ip(netns, "link", "add", dev, "address", mac, "type", "bridge", "mcast_snooping", "0", "stp_state", "0")
        for port in ports:
            self.ip(netns, "link", "set", port, "master", dev)
        self.up(device)

    def vxlan(self, device: str, mac: str, **options: Any) -> None:
        netns, dev = device.split("/")
        words: list[str] = ["external"] if options.pop("external", False) else []
        for key, value in options.items():
            words += [key, str(value)]
        self.ip(netns, "link", "add", dev, "address", mac, "type", "vxlan", *words)
        self.up(device)

    def no_offload(self, device: str) -> None:
        """Let checksums be computed before a packet leaves."""
        netns, dev = device.split("/")
        with self.inside(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            _ethtool(sock, dev, bytearray(struct.pack("<II", ETHTOOL_STXCSUM, 0)))

    def ifindex(self, device: str) -> int:
        netns, dev = device.split("/")
        with self.inside(netns):
            return socket.if_nametoindex(dev)

    @contextlib.contextmanager
    def inside(self, netns: str) -> Iterator[None]:
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        other = os.open(f"/run/netns/{self.prefix}{netns}", os.O_RDONLY)
        try:
            _setns(other)
            yield
        finally:
            _setns(own)
            os.close(own)
            os.close(other)

    def load(self, netns: str, path: Path, rodata: Mapping[str, int]) -> Object:
        obj = open_object(path, bpf=self.bpf)
        for name, value in rodata.items():
            obj.rodata[name] = value
        with self.inside(netns):
            obj.load()
        self.objects.append(obj)
        return obj

    def call(self, netns: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """bpf(2) by a task in the namespace."""
        with self.inside(netns):
            return function(*args, **options)

    def attach(self, fd: int, device: str, hook: str, mode: str = "") -> None:
        netns, _ = device.split("/")
        flags = {"": 0, "generic": 2, "native": 4}[mode]
        with self.inside(netns):
            self.links.append(self.bpf.link_create(fd, self.ifindex(device), ATTACH[hook], flags=flags))

    def capture(self, device: str) -> "Capture":
        netns, dev = device.split("/")
        with self.inside(netns):
            self.captures.append(Capture(dev))
        return self.captures[-1]

    def send(self, device: str, frames: Sequence[bytes], captures: Sequence["Capture"]) -> None:
        netns, dev = device.split("/")
        with self.inside(netns):
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            sender.bind((dev, 0))
        if not self.settled:
            # carriers come up by and by
            time.sleep(0.3)
            self.settled = True
        with sender:
            for number, frame in enumerate(frames):
                with contextlib.suppress(OSError):
                    sender.send(frame)
                if number % 32 == 31:
                    # the receiver's ring has 256 places
                    time.sleep(0.0005)
                    for capture in captures:
                        capture.drain()
        time.sleep(0.05)
        for capture in captures:
            capture.drain()

    def counters(self, device: str) -> dict[str, int]:
        netns, dev = device.split("/")
        # /sys shows the devices of the namespace that it was mounted in
        rows = json.loads(self.ip(netns, "-s", "-s", "-j", "link", "show", dev))[0]["stats64"]
        return {f"{side}_{key}": value for side in ("rx", "tx") for key, value in rows[side].items()}

    def ethtool(self, device: str) -> dict[str, int]:
        """What ``ethtool -S`` shows."""
        netns, dev = device.split("/")
        with self.inside(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            info = bytearray(struct.pack("<IIQI", ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_STATS, 0))
            _ethtool(sock, dev, info)
            count = struct.unpack_from("<I", info, 16)[0]
            strings = bytearray(struct.pack("<III", ETHTOOL_GSTRINGS, ETH_SS_STATS, count) + bytes(32 * count))
            _ethtool(sock, dev, strings)
            values = bytearray(struct.pack("<II", ETHTOOL_GSTATS, count) + bytes(8 * count))
            _ethtool(sock, dev, values)
        names = [bytes(strings[12 + 32 * i : 44 + 32 * i]).split(b"\0")[0].decode() for i in range(count)]
        return dict(zip(names, struct.unpack_from(f"<{count}Q", values, 8), strict=True))


class Capture:
    """Frames that a device has received, with VLAN tags where they were."""

    def __init__(self, dev: str) -> None:
        self.frames: list[bytes] = []
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._sock.bind((dev, ETH_P_ALL))

    def drain(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(65536, 256)
            except BlockingIOError:
                return
            for level, kind, value in ancillary:
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                    status, _, _, _, _, tci, tpid = struct.unpack_from("<IIIHHHH", value)
                    if status & TP_STATUS_VLAN_VALID:
                        proto = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                        data = data[:12] + struct.pack("!HH", proto, tci) + data[12:]
            self.frames.append(data)

    def close(self) -> None:
        self._sock.close()


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _ethtool(sock: socket.socket, dev: str, data: bytearray) -> None:
    buffer = (ctypes.c_char * len(data)).from_buffer(data)
    request = struct.pack("16sQ", dev.encode(), ctypes.addressof(buffer)).ljust(40, b"\0")
    fcntl.ioctl(sock, SIOCETHTOOL, request)
