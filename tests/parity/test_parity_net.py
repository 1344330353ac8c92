"""The same veth topologies, the same objects and packets, in this Linux and in the simulated one: equal frames out,
equal maps, equal counters. ``make parity-net`` runs them with 10,000 packets each; other runs take a few."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.parity]

BPF = Path(__file__).parent / "bpf"
A, R0, R1, B = "02:00:00:00:00:0a", "02:00:00:00:00:10", "02:00:00:00:00:11", "02:00:00:00:00:0b"
DADDRS, SADDRS = ["10.0.2.9", "10.0.2.77", "10.0.3.1"], ["10.0.1.1", "10.0.1.99"]
COUNTERS = (
    "rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "tx_dropped", "rx_errors", "tx_errors", "rx_dropped",
)  # fmt: skip
AT_PAGE_POOL = "rx_pp_"
ENDS = ("a/veth0", "b/veth1")
ARP = b"\x08\x06"


def line(world) -> None:
    """a/veth0 - r/eth0, r/eth1 - b/veth1."""
    for name in ("a", "r", "b"):
        world.netns(name)
    world.veth("a/veth0", "r/eth0", A, R0)
    world.veth("r/eth1", "b/veth1", R1, B)


def counted(world, *devices: str) -> dict[str, int]:
    found = {}
    for device in devices:
        shown = world.counters(device)
        rows = {name: shown[name] for name in COUNTERS}
        if device in ENDS:
            # what a packet socket takes has been handled
            del rows["rx_dropped"]
        ethtool = world.ethtool(device)
        rows |= {name: ethtool[name] for name in ethtool if not name.startswith(AT_PAGE_POOL)}
        found |= {f"{device} {name}": value for name, value in rows.items()}
    return found


def differing(ours: dict[str, int], linux: dict[str, int]) -> dict[str, tuple[int | None, int | None]]:
    return {name: (ours.get(name), linux.get(name)) for name in {**linux, **ours} if ours.get(name) != linux.get(name)}


def contents(obj, *names: str) -> dict[str, object]:
    return {name: sorted((str(key), str(value)) for key, value in obj.maps[name].items()) for name in names}


def assert_same_frames(linux: list[bytes], ours: list[bytes]) -> None:
    assert len(ours) == len(linux)
    for number, (theirs, frame) in enumerate(zip(linux, ours, strict=True)):
        assert frame == theirs, f"frame {number}"


@pytest.mark.parametrize("mode", ["native", "generic"])
@pytest.mark.parametrize("back", [True, False], ids=["sender has XDP", "sender has none"])
def test_xdp_verdicts(both, packets, count, mode, back) -> None:
    """Drop, TX, redirect by map and by index, pass, with heads and tails that move."""
    frames = packets(count, 1, R0, A, DADDRS, SADDRS)

    def story(world):
        line(world)
        obj = world.load("r", BPF / "xdp_mix.bpf.o", {"out_ifindex": 0})
        mix, plain = (obj.programs[name].fd for name in ("mix", "pass"))
        targets = obj.maps["targets"]
        world.call("r", world.bpf.map_update_elem, targets.fd, bytes(4), world.ifindex("r/eth0").to_bytes(4, "little"))
        key = (1).to_bytes(4, "little")
        world.call("r", world.bpf.map_update_elem, targets.fd, key, world.ifindex("r/eth1").to_bytes(4, "little"))
        world.attach(mix, "r/eth0", "xdp", mode)
        world.attach(plain, "b/veth1", "xdp", "native")
        if back:
            world.attach(plain, "a/veth0", "xdp", "native")
        captures = [world.capture("a/veth0"), world.capture("b/veth1")]
        world.send("a/veth0", frames, captures)
        devices = ("a/veth0", "r/eth0", "r/eth1", "b/veth1")
        return (
            [capture.frames for capture in captures],
            contents(obj, "stats", "lengths"),
            counted(world, *devices),
        )

    (linux, linux_maps, linux_counters), (ours, our_maps, our_counters) = both(story)
    assert our_maps == linux_maps
    assert differing(our_counters, linux_counters) == {}
    for one, other in zip(linux, ours, strict=True):
        assert_same_frames(one, other)


def tc_story(packets, count, program, mode="ingress", end="b/veth1"):
    """Frames that pass a program at r/eth0 and leave by r/eth1."""
    frames = packets(count, 2, R0, A, DADDRS, SADDRS)

    def story(world):
        line(world)
        for device, address in (("r/eth0", "10.0.1.2/24"), ("r/eth1", "10.0.2.2/24")):
            world.address(device, address)
        world.neigh("r/eth1", "10.0.2.9", B)
        world.neigh("r/eth0", "10.0.1.1", A)
        world.neigh("r/eth0", "10.0.1.99", A)
        obj = world.load("r", BPF / "tc_stories.bpf.o", {"out_ifindex": world.ifindex("r/eth1")})
        world.attach(obj.programs[program].fd, "r/eth0", f"tcx_{mode}")
        captures = [world.capture(end)]
        world.send("a/veth0", frames, captures)
        devices = ("a/veth0", "r/eth0", "r/eth1", "b/veth1")
        return captures[0].frames, contents(obj, "counts"), counted(world, *devices)

    return story


@pytest.mark.parametrize("program", ["vlan", "nat", "encap", "decap", "forward"])
def test_tc_programs(both, packets, count, program) -> None:
    """VLAN tags in and out, NAT with the checksum helpers, IP in IP by adjust_room."""
    (linux, linux_maps, linux_counters), (ours, our_maps, our_counters) = both(tc_story(packets, count, program))
    assert our_maps == linux_maps
    assert differing(our_counters, linux_counters) == {}
    assert_same_frames(linux, ours)


@pytest.mark.parametrize("kind", ["router", "xdp_router"])
def test_router_by_fib_lookup(both, packets, count, kind) -> None:
    """Routes, neighbours and MTUs as bpf_fib_lookup tells them; what it does not say goes through the stack."""
    frames = packets(count, 3, R0, A, [*DADDRS, "10.0.2.9", "192.168.5.5", "10.0.9.1"], SADDRS)

    def story(world):
        for name in ("a", "b"):
            world.netns(name)
        world.netns("r", {"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.rp_filter": 0})
        world.veth("a/veth0", "r/eth0", A, R0)
        world.veth("r/eth1", "b/veth1", R1, B, mtu=1000)
        world.address("r/eth0", "10.0.1.2/24")
        world.address("r/eth1", "10.0.2.2/24")
        world.route("r", "10.0.9.0/24", "10.0.2.9")
        for address in ("10.0.2.9", "10.0.2.77"):
            world.neigh("r/eth1", address, B)
        for address in SADDRS:
            world.neigh("r/eth0", address, A)
        obj = world.load("r", BPF / "tc_stories.bpf.o", {})
        if kind == "router":
            world.attach(obj.programs[kind].fd, "r/eth0", "tcx_ingress")
        else:
            plain = world.load("b", BPF / "xdp_mix.bpf.o", {})
            world.attach(obj.programs[kind].fd, "r/eth0", "xdp", "native")
            world.attach(plain.programs["pass"].fd, "b/veth1", "xdp", "native")
        captures = [world.capture("b/veth1")]
        world.send("a/veth0", frames, captures)
        return [frame for frame in captures[0].frames if frame[12:14] != ARP], contents(obj, "counts")

    (linux, linux_maps), (ours, our_maps) = both(story)
    assert our_maps == linux_maps
    assert_same_frames(masked(linux), masked(ours))


def test_bridge(both, packets, count) -> None:
    """Four hosts on a bridge: learning, flooding, addresses that move, a program that drops at one port."""
    macs = [f"02:00:00:00:01:0{n}" for n in range(4)]
    batches = [
        (n % 4, packets(max(1, count // 40), 10 + n, macs[(n * 3 + 1) % 4] if n % 5 else "ff:ff:ff:ff:ff:ff",
                        macs[n % 4 if n % 7 else (n + 1) % 4], DADDRS, SADDRS))
        for n in range(40)
    ]  # fmt: skip

    def story(world):
        world.netns("br", {"net.ipv4.conf.all.arp_ignore": 8, "net.ipv4.conf.default.arp_ignore": 8})
        for n in range(4):
            world.netns(f"h{n}", {})
            world.veth(f"br/p{n}", f"h{n}/eth0", f"02:00:00:00:02:0{n}", macs[n])
        world.bridge("br/br0", [f"p{n}" for n in range(4)], "02:00:00:00:02:00")
        obj = world.load("br", BPF / "tc_stories.bpf.o", {})
        world.attach(obj.programs["tunnel_in"].fd, "br/p1", "tcx_ingress")
        captures = [world.capture(f"h{n}/eth0") for n in range(4)]
        for host, frames in batches:
            world.send(f"h{host}/eth0", frames, captures)
        found = {}
        for device in ("br/p0", "br/p1", "br/p2", "br/p3", "br/br0"):
            shown = world.counters(device)
            found |= {f"{device} {name}": shown[name] for name in COUNTERS[:5]}
        return [capture.frames for capture in captures], contents(obj, "counts"), found

    (linux, linux_maps, linux_counters), (ours, our_maps, our_counters) = both(story)
    assert our_maps == linux_maps
    assert differing(our_counters, linux_counters) == {}
    for one, other in zip(linux, ours, strict=True):
        assert_same_frames(one, other)


@pytest.mark.parametrize("out", [True, False], ids=["encapsulate", "decapsulate"])
def test_vxlan_in_metadata_mode(both, packets, count, out) -> None:
    """bpf_skb_set_tunnel_key and the bytes on the wire; bpf_skb_get_tunnel_key of what comes in."""
    inner = packets(count, 4, "02:00:00:00:00:99", "02:00:00:00:00:98", DADDRS, SADDRS)
    inner = [frame for frame in inner if len(frame) <= 1400]

    def story(world):
        world.netns("r")
        world.netns("b")
        world.veth("r/eth1", "b/veth1", R1, B)
        world.address("r/eth1", "10.0.2.2/24")
        world.neigh("r/eth1", "10.0.2.9", B)
        world.no_offload("r/eth1")
        world.vxlan("r/vx0", "02:00:00:00:00:55", dstport=4789, external=True)
        obj = world.load("r", BPF / "tc_stories.bpf.o", {})
        if out:
            world.attach(obj.programs["tunnel_out"].fd, "r/vx0", "tcx_egress")
            captures = [world.capture("b/veth1")]
            world.send("r/vx0", inner, captures)
        else:
            world.attach(obj.programs["tunnel_in"].fd, "r/vx0", "tcx_ingress")
            captures = [world.capture("r/vx0")]
            world.send("b/veth1", vxlan_frames(inner), captures)
        shown = world.counters("r/vx0")
        found = {name: shown[name] for name in COUNTERS[:5]}
        return captures[0].frames, contents(obj, "counts"), found

    (linux, linux_maps, linux_counters), (ours, our_maps, our_counters) = both(story)
    assert our_maps == linux_maps
    assert our_counters == linux_counters
    assert_same_frames(masked(linux), masked(ours))


def vxlan_frames(inner: list[bytes]) -> list[bytes]:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.layers.vxlan import VXLAN

    frames = []
    for number, frame in enumerate(inner):
        ip = IP(src="10.0.2.9", dst="10.0.2.2", tos=number % 4 | 0x10, ttl=60 + number % 4)
        # some headers that are not right
        vxlan = VXLAN(vni=number % 3 * 1000 + 5, flags=8 if number % 9 else 0)
        udp = UDP(sport=40000 + number % 100, dport=4789, **({} if number % 2 else {"chksum": 0}))
        frames.append(bytes(Ether(dst=R1, src=B) / ip / udp / vxlan) + frame)
    return frames


def masked(frames: list[bytes]) -> list[bytes]:
    """Without the IP ids that the host chose, and the checksum over them."""
    done = []
    for frame in frames:
        if frame[12:14] == b"\x08\0":
            frame = frame[:18] + b"\0\0" + frame[20:24] + b"\0\0" + frame[26:]
        done.append(frame)
    return done
