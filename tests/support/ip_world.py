"""A host between two links, as a network namespace of Linux and as a simulated one: what frames make it send and count.

``r`` has 10.0.1.2/24 and 2001:db8:1::2/64 on eth0, 10.0.2.2/24 and 2001:db8:2::2/64 on eth1 (MTU 1280), sockets of UDP
on port 53, and permanent neighbours: 10.0.1.1 and 2001:db8:1::1 (02:00:00:00:00:0a) on eth0, 10.0.2.9 and 2001:db8:2::9
(02:00:00:00:00:0d) on eth1. ICMP errors are not limited; nothing is said that was not asked for (no duplicate address
detection, no router solicitations). A ``Case`` says what else is set and which frames come.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAC_A, MAC_0, MAC_1, MAC_C = (f"02:00:00:00:00:0{each}" for each in "abcd")
ADDRESSES = {"eth0": ("10.0.1.2/24", "2001:db8:1::2/64"), "eth1": ("10.0.2.2/24", "2001:db8:2::2/64")}
NEIGHBOURS = (
    ("eth0", "10.0.1.1", MAC_A), ("eth0", "2001:db8:1::1", MAC_A), ("eth1", "10.0.2.9", MAC_C),
    ("eth1", "2001:db8:2::9", MAC_C),
)  # fmt: skip
MTU_1 = 1280
PORT = 53
QUIET = {
    "net.ipv4.icmp_ratelimit": 0, "net.ipv4.icmp_msgs_per_sec": 1_000_000, "net.ipv4.icmp_msgs_burst": 10_000,
    "net.ipv6.icmp.ratelimit": 0,
}  # fmt: skip
# ICMPv6 messages that Linux sends by itself: multicast listener reports, router solicitations
OWN = (143, 133)


@dataclass(frozen=True)
class Case:
    """Frames that come in, by device, ``ip`` commands and settings before, and how long is waited after."""

    frames: Sequence[tuple[str, bytes]]
    forward: bool = False
    sysctl: dict[str, int] = field(default_factory=dict)
    commands: Sequence[str] = ()
    wait_ms: int = 0


Result = dict[str, Any]


def settings(case: Case) -> dict[str, int]:
    forward = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1} if case.forward else {}
    return {**QUIET, **forward, **case.sysctl}


def masked(frame: bytes) -> str:
    """Return a frame in hex without what the kernel draws: ids of packets that it made itself."""
    data = bytearray(frame)
    if data[12:14] == b"\x08\x00" and len(data) >= 34 and data[26:28] == b"\x0a\x00" and data[29] == 2:
        data[18:20] = data[24:26] = b"\0\0"
        if data[23] == 1 and data[34] == 14:
            # the time of day
            data[36:38], data[42:] = b"\0\0", bytes(len(data) - 42)
    if data[12:14] == b"\x86\xdd":
        # the flow label is a hash with a secret
        data[15:18] = bytes([data[15] & 0xF0, 0, 0])
        if data[20] == 44 and data[22 + 15] == 2:
            data[58:62] = bytes(4)
    return data.hex()


# ---- Linux ----------------------------------------------------------------------------------------------------------


def run_live(case: Case, world: Any) -> Result:
    """Let Linux answer; ``world`` is a LiveWorld of tests/parity."""
    world.netns("x")
    world.netns("r", {"net.ipv6.conf.all.disable_ipv6": 0, "net.ipv6.conf.default.disable_ipv6": 0})
    _write(world, "r", {"net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.default.router_solicitations": 0,
                        "net.ipv6.conf.default.mldv2_unsolicited_report_interval": 100_000})  # fmt: skip
    _write(world, "r", {"net.ipv4.conf.default.rp_filter": 0, "net.ipv4.conf.all.rp_filter": 0})
    world.veth("x/p0", "r/eth0", MAC_A, MAC_0, 9000)
    world.veth("x/p1", "r/eth1", MAC_C, MAC_1, 9000)
    world.ip("r", "link", "set", "eth0", "mtu", "1500")
    world.ip("r", "link", "set", "eth1", "mtu", str(MTU_1))
    for device, addresses in ADDRESSES.items():
        for address in addresses:
            world.ip("r", "addr", "add", address, "dev", device, *(("nodad",) if ":" in address else ()))
    for device, address, mac in NEIGHBOURS:
        world.neigh(f"r/{device}", address, mac)
    for device in ("r/eth0", "r/eth1", "x/p0", "x/p1"):
        world.no_offload(device)
    _write(world, "r", settings(case))
    for command in case.commands:
        subprocess.run(["ip", "-n", f"{world.prefix}r", *command.split()], check=True)
    captures = [world.capture("x/p0"), world.capture("x/p1")]
    with world.inside("r"):
        sockets = [_bound(socket.AF_INET), _bound(socket.AF_INET6)]
    time.sleep(0.4)
    world.settled = True
    for capture in captures:
        capture.drain()
        capture.frames.clear()
    before = _counters(world)
    for device, frame in case.frames:
        world.send(f"x/p{device[-1]}", [frame], captures)
    time.sleep(case.wait_ms / 1000)
    for capture in captures:
        capture.drain()
    received = [row for sock in sockets for row in _read(sock)]
    after = _counters(world)
    out = [[masked(frame) for frame in capture.frames if not _own(frame)] for capture in captures]
    return _result(out, received, before, after)


def _write(world: Any, netns: str, values: dict[str, int]) -> None:
    for name, value in values.items():
        with world.inside(netns):
            Path("/proc/sys", *name.split(".")).write_text(str(value))


def _bound(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("", PORT))
    return sock


def _read(sock: socket.socket) -> list[list[Any]]:
    rows = []
    while True:
        try:
            data, source = sock.recvfrom(65536)
        except BlockingIOError:
            sock.close()
            return rows
        rows.append([source[0].partition("%")[0], source[1], data.hex()])


def _counters(world: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    with world.inside("r"):
        for name in ("snmp", "netstat"):
            lines = Path(f"/proc/thread-self/net/{name}").read_text().splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                group = names.partition(":")[0]
                found |= {
                    group + key: int(value) for key, value in zip(names.split()[1:], values.split()[1:], strict=True)
                }
        for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines():
            key, value = line.split()
            found[key] = int(value)
    return found


def _own(frame: bytes) -> bool:
    off = 54 + (8 if frame[20:21] == b"\0" else 0)
    return frame[12:14] == b"\x86\xdd" and frame[20] in (0, 58) and len(frame) > off and frame[off] in OWN


# ---- simulated ------------------------------------------------------------------------------------------------------


def run_simulated(case: Case, lab: Any) -> Result:
    """Let the simulation answer; ``lab`` is the laboratory of tests/unit/netstack."""
    from netstack.headers import parse_mac

    r = lab.net("r", sysctl=settings(case))
    x = lab.net("x")
    ends = {}
    for index, (device, mac, other) in enumerate((("eth0", MAC_0, MAC_A), ("eth1", MAC_1, MAC_C))):
        nic = r.add_nic(device, ADDRESSES[device], mac, mtu=MTU_1 if index else 1500)
        ends[device] = x.add_nic(f"p{index}", (), other, mtu=9000)
        lab.connect(nic, ends[device])
    from ipaddress import ip_address

    for device, address, mac in NEIGHBOURS:
        table = r.neigh6 if ":" in address else r.neigh
        table.add(r.devices[device], int(ip_address(address)), parse_mac(mac))
    for command in case.commands:
        apply(r, command)
    sockets = [r.udp_socket(port=PORT), r.udp_socket6(port=PORT)]
    lab.run()
    lab.recorder.packets.clear()
    before = r.snmp.as_dict()
    for number, (device, frame) in enumerate(case.frames):
        ends[device].inject(frame)
        lab.run((number + 1) * 50_000_000)
    lab.run((len(case.frames) * 50 + case.wait_ms) * 1_000_000)
    out = [
        [masked(row.data) for row in lab.frames(r, "out", device) if not _own(row.data)] for device in ("eth0", "eth1")
    ]
    received = [[row.source.address, row.source.port, row.data.hex()] for sock in sockets for row in sock.received]
    return _result(out, received, before, r.snmp.as_dict())


def apply(net: Any, command: str) -> None:
    """Do what an ``ip`` command says: routes and rules."""
    words = command.split()
    if words[0] == "-6":
        words = words[1:]
    kind, verb, *rest = words
    assert verb == "add"
    if kind == "neigh":
        from netstack.headers import parse_ip, parse_mac

        address, _, mac, _, device = rest
        net.neigh.add(net.devices[device], parse_ip(address), parse_mac(mac))
        return
    options = {}
    if kind == "route":
        types = ("unreachable", "prohibit", "blackhole")
        if rest[0] in types:
            options["type"] = rest.pop(0)
        to, rest = rest[0], rest[1:]
        hops = []
        while rest:
            key, value, *rest = rest
            if key == "nexthop":
                # nexthop via A dev D [weight N]
                hop = {value: rest.pop(0)}
                while rest and rest[0] != "nexthop":
                    hop[rest[0]], rest = rest[1], rest[2:]
                hops.append(hop)
            else:
                options[key] = int(value) if key in ("metric", "table") else value
        if hops:
            net.add_multipath_route(to, [(hop["via"], int(hop.get("weight", 1))) for hop in hops], **options)
        else:
            net.add_route(to, **options)
        return
    assert kind == "rule"
    names = {"from": "source", "to": "to", "fwmark": "mark", "iif": "iif", "lookup": "table", "priority": "priority"}
    for key, value in zip(rest[::2], rest[1::2], strict=True):
        options[names[key]] = value if key in ("from", "to", "iif") else int(value, 0)
    net.add_rule(**options, **({"family": 6} if command.startswith("-6") else {}))


# ---- both -----------------------------------------------------------------------------------------------------------

# counters that are not of what is looked at
_LEFT_OUT = ("Octets", "ECT1Pkts", "ECT0Pkts", "NoECTPkts", "InCEPkts", "TcpExt", "Tcp", "MPTcp")


def _result(out: list[list[str]], received: list[list[Any]], before: dict[str, int], after: dict[str, int]) -> Result:
    from netstack.snmp import SNMP_COUNTERS

    moved = {
        name: after[name] - before.get(name, 0)
        for name in SNMP_COUNTERS
        if name in after and after[name] != before.get(name, 0) and not any(part in name for part in _LEFT_OUT)
    }
    own = moved.pop("Icmp6OutMLDv2Reports", 0) + moved.pop("Icmp6OutRouterSolicits", 0)
    for name in ("Ip6OutRequests", "Ip6OutMcastPkts", "Ip6OutTransmits", "Icmp6OutMsgs"):
        if moved.get(name, 0) == own:
            moved.pop(name, None)
        else:
            moved[name] -= own
    return {"eth0": out[0], "eth1": out[1], "udp": received, "counters": moved}


def recorded() -> dict[str, Result]:
    """Return what Linux answered when it was asked."""
    path = Path(__file__).parents[1] / "data" / "ip_cases.json"
    found: dict[str, Result] = json.loads(path.read_text()) if path.exists() else {}
    return found


def available() -> bool:
    """Whether namespaces can be made here."""
    return os.geteuid() == 0 and any(Path(folder, "ip").exists() for folder in os.environ["PATH"].split(":"))
