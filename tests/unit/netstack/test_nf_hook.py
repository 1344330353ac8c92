"""Packets at the hooks of netfilter: which ones they pass, what a drop means to the sender (net/netfilter/core.c)."""

from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

PLACES = ("PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING")


class Three:
    """a -- r -- b, with a program on every hook of r."""

    def __init__(self, *dropping: str) -> None:
        self.sim = Simulation(seed=1)
        a, self.r, b = (self.sim.host(name, sysctl={"net.ipv4.ip_forward": 1}) for name in "arb")
        self.sim.link(a.nic("eth0", "10.0.1.1/24"), self.r.nic("eth0", "10.0.1.2/24"))
        self.sim.link(self.r.nic("eth1", "10.0.2.2/24"), b.nic("eth0", "10.0.2.9/24"))
        a.net.add_route("default", via="10.0.1.2")
        b.net.add_route("default", via="10.0.2.2")
        self.links = {
            name: self.attach(name, "r0 = 0; exit" if name in dropping else "r0 = 1; exit") for name in PLACES
        }
        self.a, self.b = a.udp_socket("10.0.1.1", 9), b.udp_socket("10.0.2.9", 9)
        self.here = self.r.udp_socket("0.0.0.0", 9)

    def attach(self, name: str, code: str, priority: int = 0) -> Any:
        insns = encode(assemble(code))
        fd = self.r.bpf.prog_load(ProgType.NETFILTER, insns, expected_attach_type=AttachType.NETFILTER).fd
        return self.r.attach_netfilter(fd, name, priority=priority, label=f"{name} {priority}")

    def passed(self) -> list[str]:
        found = [run.device for run in self.sim.recorder.runs if run.hook == "netfilter"]
        self.sim.recorder.runs.clear()
        return found


@pytest.mark.parametrize(
    ("sender", "to", "places"),
    [
        ("a", "10.0.2.9", ["PRE_ROUTING", "FORWARD", "POST_ROUTING"]),
        ("a", "10.0.1.2", ["PRE_ROUTING", "LOCAL_IN"]),
        ("here", "10.0.2.9", ["LOCAL_OUT", "POST_ROUTING"]),
        ("here", "127.0.0.1", ["LOCAL_OUT", "POST_ROUTING", "PRE_ROUTING", "LOCAL_IN"]),
    ],
)
def test_hooks_that_a_packet_passes(sender: str, to: str, places: list[str]) -> None:
    three = Three()
    getattr(three, sender).sendto(b"x", to, 9)
    three.sim.run()
    assert three.passed() == places


@pytest.mark.parametrize("place", ["PRE_ROUTING", "FORWARD", "POST_ROUTING"])
def test_dropped_on_the_way(place: str) -> None:
    three = Three(place)
    three.a.sendto(b"x", "10.0.2.9", 9)
    three.sim.run()
    assert three.b.received == []
    assert three.links[place].verdicts == {"NF_DROP": 1}
    assert three.passed()[-1] == place
    assert three.r.net.drops["NETFILTER_DROP"] == 1


@pytest.mark.parametrize("place", ["LOCAL_OUT", "POST_ROUTING"])
def test_sender_is_told_of_a_drop(place: str) -> None:
    three = Three(place)
    with pytest.raises(KernelError, match="EPERM"):
        three.here.sendto(b"x", "10.0.2.9", 9)
    three.sim.run()
    assert three.b.received == []


def test_lowest_priority_first_and_a_drop_is_final() -> None:
    three = Three()
    late, early = three.attach("LOCAL_IN", "r0 = 0; exit", 5), three.attach("LOCAL_IN", "r0 = 1; exit", -5)
    last = three.attach("LOCAL_IN", "r0 = 1; exit", 7)
    three.a.sendto(b"x", "10.0.1.2", 9)
    three.sim.run()
    links = [run.link for run in three.sim.recorder.runs if run.device == "LOCAL_IN"]
    assert links == ["LOCAL_IN -5", "LOCAL_IN 0", "LOCAL_IN 5"]
    assert (early.verdicts, late.verdicts, last.verdicts) == ({"NF_ACCEPT": 1}, {"NF_DROP": 1}, {})
    late.close()
    three.a.sendto(b"x", "10.0.1.2", 9)
    three.sim.run()
    assert len(three.here.received) == 1


def test_program_sees_state_and_packet() -> None:
    three = Three()
    # the hook's number and family from struct nf_hook_state; the length of the packet from struct sk_buff: 20 + 8 + 3
    code = """
        r2 = *(u64 *)(r1 + 0)
        r3 = *(u64 *)(r1 + 8)
        r4 = *(u8 *)(r2 + 0)
        r5 = *(u8 *)(r2 + 1)
        r6 = *(u32 *)(r3 + 112)
        r0 = 0
        if r4 != 2 goto out
        if r5 != 2 goto out
        if r6 != 31 goto out
        r0 = 1
    out:
        exit
    """
    link = three.attach("FORWARD", code, 9)
    three.a.sendto(b"abc", "10.0.2.9", 9)
    three.a.sendto(b"abcd", "10.0.2.9", 9)
    three.sim.run()
    assert link.verdicts == {"NF_ACCEPT": 1, "NF_DROP": 1}


def test_segments_of_tcp_pass_the_same_hooks() -> None:
    three = Three()
    listen = [{"socket": ["inet", "stream"], "as": "s"}, {"bind": ["$s", "10.0.1.2:80"]}, {"listen": ["$s", 5]}]
    three.r.spawn("server", steps=[*listen, {"accept4": ["$s", 0, 0, 0]}, {"exit_group": 0}])
    steps = [{"socket": ["inet", "stream"], "as": "s"}, {"connect": ["$s", "10.0.1.2:80"]}]
    client = next(host for host in three.sim.hosts.values() if host.name == "a").spawn("client", steps=steps, at="1ms")
    three.sim.run("20ms")
    assert client.results[-1].retval == 0
    passed = three.passed()
    assert passed[:4] == ["PRE_ROUTING", "LOCAL_IN", "LOCAL_OUT", "POST_ROUTING"]
    assert passed.count("LOCAL_OUT") == passed.count("POST_ROUTING") > 0
    assert passed.count("PRE_ROUTING") == passed.count("LOCAL_IN") > 0


@pytest.mark.parametrize(
    ("sender", "to", "places"),
    [
        ("a", "fd02::9", ["PRE_ROUTING", "FORWARD", "POST_ROUTING"]),
        ("a", "fd01::2", ["PRE_ROUTING", "LOCAL_IN"]),
        ("r", "fd02::9", ["LOCAL_OUT", "POST_ROUTING"]),
    ],
)
def test_hooks_of_ipv6(sender: str, to: str, places: list[str]) -> None:
    sim = Simulation(seed=1)
    hosts = {name: sim.host(name, sysctl={"net.ipv6.conf.all.forwarding": 1}) for name in "arb"}
    a, r, b = hosts.values()
    sim.link(a.nic("eth0", "fd01::1/64"), r.nic("eth0", "fd01::2/64"))
    sim.link(r.nic("eth1", "fd02::2/64"), b.nic("eth0", "fd02::9/64"))
    a.net.add_route("default", via="fd01::2")
    b.net.add_route("default", via="fd02::2")
    insns = encode(assemble("r0 = 1; exit"))
    for name in PLACES:
        fd = r.bpf.prog_load(ProgType.NETFILTER, insns, expected_attach_type=AttachType.NETFILTER).fd
        r.attach_netfilter(fd, name, pf="ipv6")
    for host in (r, b):
        host.net.udp_socket6(port=9)
    hosts[sender].net.udp_socket6(port=10).sendto(b"x", to, 9)
    sim.run("1s")
    # neighbours that are asked and answer pass hooks as well, but are not forwarded
    found = [run.device for run in sim.recorder.runs if run.hook == "netfilter"]
    assert set(places) <= set(found)
    assert found.count("FORWARD") == places.count("FORWARD")
