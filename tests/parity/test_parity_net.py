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
        obj = world.load("r", BPF / "xdp_mix.bpf.o")
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
