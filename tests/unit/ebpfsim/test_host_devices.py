"""Devices and namespaces in the words of ip(8)."""

import pytest

from ebpfsim import KernelError, Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType


@pytest.fixture
def sim():
    return Simulation(seed=1)


def test_sockets_in_two_namespaces_talk_over_a_pair(sim) -> None:
    host = sim.host("h")
    blue = host.netns("blue")
    host.veth("veth0", "blue/veth1", address="10.0.0.1/24", peer_address="10.0.0.2/24")
    server = blue.udp_socket("10.0.0.2", 53)
    host.udp_socket("10.0.0.1", 1000).sendto(b"hello", "10.0.0.2", 53)
    sim.run()
    assert [(each.source.address, each.data) for each in server.received] == [("10.0.0.1", b"hello")]
    assert {record.host for record in sim.recorder.packets} == {"h", "h/blue"}


def test_names_of_devices(sim) -> None:
    host = sim.host("h")
    host.netns("blue")
    a, b = host.veth("veth0", "blue/veth1")
    assert (host.device("veth0"), host.device("blue/veth1"), host.netns("blue").device("veth1")) == (a, b, b)
    with pytest.raises(KernelError, match="host 'h/blue' has no device 'veth2'; did you mean 'veth1'") as refused:
        host.device("blue/veth2")
    assert refused.value.errno == 19  # ENODEV
    with pytest.raises(KernelError, match="host 'h' has no namespace 'bleu'; did you mean 'blue'"):
        host.device("bleu/veth1")


def test_the_peer_of_one_namespace_has_the_lower_number(sim) -> None:
    """``ip link add veth0 type veth peer name veth1`` registers the peer first."""
    a, b = sim.host("h").veth("veth0", "veth1")
    assert (a.ifindex, b.ifindex) == (3, 2)


def test_numbers_belong_to_the_namespace_of_the_caller(sim) -> None:
    """A devmap's entries, and what a link is attached to, are looked up in current->nsproxy->net_ns."""
    host = sim.host("h")
    blue = host.netns("blue")
    a, b = host.veth("veth0", "blue/veth1")
    assert a.ifindex == b.ifindex == 2
    maps = {}
    for space in (host, blue):
        fd = space.bpf.map_create(MapType.DEVMAP, 4, 4, 1)
        space.bpf.map_update_elem(fd, bytes(4), (2).to_bytes(4, "little"))
        maps[space.name] = host.kernel.fds.lookup(fd).device_at(0)
    assert maps == {"h": a, "h/blue": b}
    code = encode(assemble("r0 = 1; exit"))
    prog = blue.bpf.prog_load(ProgType.XDP, code, expected_attach_type=AttachType.XDP).fd
    blue.bpf.link_create(prog, 2, AttachType.XDP)
    assert (a.xdp.native, b.xdp.native is not None) == (None, True)


def test_removed_devices_leave_maps_and_links(sim) -> None:
    host = sim.host("h")
    a, _ = host.veth("veth0", "veth1", address="10.0.0.1/24")
    fd = host.bpf.map_create(MapType.DEVMAP, 4, 4, 1)
    host.bpf.map_update_elem(fd, bytes(4), a.ifindex.to_bytes(4, "little"))
    code = encode(assemble("r0 = 2; exit"))
    link = host.attach_xdp(host.bpf.prog_load(ProgType.XDP, code, expected_attach_type=AttachType.XDP).fd, "veth0")
    host.link_del("veth0")
    assert list(host.net.devices) == ["lo"]
    assert host.kernel.fds.lookup(fd).device_at(0) is None
    assert link.info()["ifindex"] == 0
    assert host.net.fib.lookup(0x0A000002) is None
