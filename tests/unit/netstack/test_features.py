"""Features by the names of ``ethtool -k``: what Linux 6.18 shows of new devices, and of pairs with a program of XDP."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType
from netstack.features import active_features

SOFTWARE = (
    "highdma tx-checksum-ip-generic tx-generic-segmentation tx-gso-list tx-scatter-gather tx-scatter-gather-fraglist"
    " tx-sctp-segmentation tx-tcp-accecn-segmentation tx-tcp-ecn-segmentation tx-tcp-mangleid-segmentation"
    " tx-tcp-segmentation tx-tcp6-segmentation tx-udp-segmentation"
)
TUNNELS = (
    " tx-gre-csum-segmentation tx-gre-segmentation tx-ipxip4-segmentation tx-ipxip6-segmentation"
    " tx-udp_tnl-csum-segmentation tx-udp_tnl-segmentation"
)
SEEN = {
    "lo": SOFTWARE + " loopback rx-checksum rx-gro tx-checksum-sctp vlan-challenged",
    "veth0": SOFTWARE + TUNNELS + " rx-checksum rx-vlan-hw-parse rx-vlan-stag-hw-parse tx-checksum-sctp"
    " tx-vlan-hw-insert tx-vlan-stag-hw-insert",
    "br0": SOFTWARE + TUNNELS + " rx-gro tx-esp-segmentation tx-fcoe-segmentation tx-gso-partial tx-gso-robust"
    " tx-tunnel-remcsum-segmentation tx-vlan-hw-insert tx-vlan-stag-hw-insert",
    "ifb0": SOFTWARE + TUNNELS + " rx-gro tx-vlan-hw-insert tx-vlan-stag-hw-insert",
}


def test_new_devices() -> None:
    host = Simulation(seed=1).host("h")
    host.veth("veth0", "veth1")
    host.bridge("br0", [])
    host.ifb("ifb0")
    for name, names in SEEN.items():
        assert " ".join(active_features(host.device(name))) == " ".join(sorted(names.split())), name
    host.dummy("dummy0")
    with pytest.raises(NotModelled):
        active_features(host.device("dummy0"))


def test_a_program_of_a_pair() -> None:
    """GRO where it is, no segmentation in software at the other end (veth_xdp_set)."""
    host = Simulation(seed=1).host("h")
    host.veth("veth0", "veth1")
    fd = host.bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit")), license="GPL").fd
    link = host.attach_xdp(fd, "veth0", mode="native")
    assert "rx-gro" in active_features(host.device("veth0"))
    assert not [name for name in active_features(host.device("veth1")) if name.startswith(("tx-tcp", "tx-udp-"))]
    link.detach()
    assert "tx-tcp-segmentation" in active_features(host.device("veth1"))


def test_cards() -> None:
    host = Simulation(seed=1).host("h")
    host.nic("eth0")
    device = host.device("eth0")
    assert {"rx-gro", "tx-tcp-segmentation"} <= set(active_features(device))
    device.tso = device.gro = False
    assert not {"rx-gro", "tx-tcp-segmentation"} & set(active_features(device))
