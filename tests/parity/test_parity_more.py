"""More of ``test_parity_net``: rooms, NAT of ICMP, peers, clones, programs of devmaps and cpumaps, odd frames."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.live, pytest.mark.parity]

HERE = Path(__file__).parent
OBJECT = HERE / "bpf" / "more_stories.bpf.o"


def _module(name: str):
    # tests are no package
    found = sys.modules.get(f"parity_{name}")
    if found is None:
        spec = importlib.util.spec_from_file_location(f"parity_{name}", HERE / f"{name}.py")
        found = sys.modules[f"parity_{name}"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    return found


net = _module("test_parity_net")
A, R0, R1, B, DADDRS, SADDRS = net.A, net.R0, net.R1, net.B, net.DADDRS, net.SADDRS
DEVICES = ("a/veth0", "r/eth0", "r/eth1", "b/veth1")


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def same(told) -> None:
    (linux, linux_maps, linux_counters), (ours, our_maps, our_counters) = told
    assert net.differing(our_counters, linux_counters) == {}
    for one, other in zip(linux, ours, strict=True):
        net.assert_same_frames(net.masked(one), net.masked(other))
    assert our_maps == linux_maps


@pytest.fixture
def odd_packets():
    """Return frames that are damaged, by a seed."""
    return _module("packets").odd_packets


def story_of(frames, prepare, *, captured=("b/veth1",)):
    """a/veth0 - r/eth0, r/eth1 - b/veth1, with what ``prepare(world, load)`` attaches in r."""

    def story(world):
        net.line(world)
        rodata = {"out_ifindex": world.ifindex("r/eth1")}
        obj = prepare(world, lambda netns="r": world.load(netns, OBJECT, rodata))
        captures = [world.capture(device) for device in captured]
        world.send("a/veth0", frames, captures)
        return [capture.frames for capture in captures], net.contents(obj, "counts"), net.counted(world, *DEVICES)

    return story


@pytest.mark.parametrize("program", ["change", "nat_odd", "clones", "to_peer", "forward"])
@pytest.mark.parametrize("odd", [False, True], ids=["packets", "odd frames"])
def test_tc_programs(both, packets, odd_packets, count, program, odd) -> None:
    """All of them end in a redirect to the other device, to its peer, or in copies there."""
    frames = (odd_packets if odd else packets)(count, 20 + odd, R0, A, DADDRS, SADDRS)

    def prepare(world, load):
        obj = load()
        world.attach(obj.programs[program].fd, "r/eth0", "tcx_ingress")
        return obj

    same(both(story_of(frames, prepare)))


@pytest.mark.parametrize("mode", ["native", "generic"])
@pytest.mark.parametrize("program", ["to_device", "to_all"])
def test_programs_of_devmaps(both, packets, odd_packets, count, mode, program) -> None:
    """Entries with and without a program, missing ones, broadcast."""
    frames = odd_packets(count, 30, R0, A, DADDRS, SADDRS)

    def prepare(world, load):
        obj = load()
        plain = world.load("b", net.BPF / "xdp_mix.bpf.o", {"out_ifindex": 0}).programs["pass"].fd
        devices, egress, out = obj.maps["devices"], obj.programs["egress"].fd, world.ifindex("r/eth1")
        back = world.ifindex("r/eth0")
        for key, ifindex, fd in ((0, out, egress), (1, out, 0), (3, back, egress)):
            if program == "to_device" or key != 1:
                world.call("r", world.bpf.map_update_elem, devices.fd, u32(key), u32(ifindex, fd))
        world.attach(obj.programs[program].fd, "r/eth0", "xdp", mode)
        world.attach(plain, "b/veth1", "xdp", "native")
        world.attach(plain, "a/veth0", "xdp", "native")
        return obj

    same(both(story_of(frames, prepare, captured=("a/veth0", "b/veth1"))))


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_programs_of_cpumaps(both, packets, count, mode) -> None:
    """Frames that another thread gives to the stack, where tc sends them on."""
    frames = packets(count, 40, R0, A, DADDRS, SADDRS)

    def prepare(world, load):
        obj = load()
        plain = world.load("b", net.BPF / "xdp_mix.bpf.o", {"out_ifindex": 0}).programs["pass"].fd
        value = u32(192, obj.programs["on_cpu"].fd)
        world.call("r", world.bpf.map_update_elem, obj.maps["cpus"].fd, u32(0), value)
        world.attach(obj.programs["to_cpu"].fd, "r/eth0", "xdp", mode)
        world.attach(obj.programs["forward"].fd, "r/eth0", "tcx_ingress")
        world.attach(plain, "b/veth1", "xdp", "native")
        return obj

    (linux, linux_maps, linux_counters), (ours, our_maps, our_counters) = both(story_of(frames, prepare))
    assert our_maps == linux_maps
    assert net.differing(our_counters, linux_counters) == {}
    # those of the thread and those of the softirq are in no order among each other
    net.assert_same_frames(sorted(linux[0]), sorted(ours[0]))


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_xdp_verdicts_of_odd_frames(both, odd_packets, count, mode) -> None:
    """What ``test_xdp_verdicts`` has, of frames that are damaged."""
    net.test_xdp_verdicts(both, odd_packets, count, mode, back=True)


@pytest.mark.parametrize("program", ["vlan", "nat", "encap", "decap", "forward"])
def test_old_tc_programs_of_odd_frames(both, odd_packets, count, program) -> None:
    """What ``test_tc_programs`` of ``test_parity_net`` has, of frames that are damaged."""
    net.test_tc_programs(both, odd_packets, count, program)


@pytest.mark.parametrize("kind", ["router", "xdp_router"])
def test_router_of_odd_frames(both, odd_packets, count, kind) -> None:
    """Headers that are not right, fragments, options: by bpf_fib_lookup and by the stack."""
    net.test_router_by_fib_lookup(both, odd_packets, count, kind)


def test_bridge_of_odd_frames(both, odd_packets, count) -> None:
    """Frames of which a bridge sees the addresses only."""
    net.test_bridge(both, odd_packets, count)


@pytest.mark.parametrize("out", [True, False], ids=["encapsulate", "decapsulate"])
def test_vxlan_of_odd_frames(both, odd_packets, count, out) -> None:
    """Frames in a tunnel that are damaged."""
    net.test_vxlan_in_metadata_mode(both, odd_packets, count, out)
