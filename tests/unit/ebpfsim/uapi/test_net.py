"""The numbers of the network: verdicts from the bundled BTF, the rest from the tables of IANA and IEEE."""

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.uapi.net import EtherType, IpProto, XdpAction


def test_verdicts_are_the_kernel_s() -> None:
    btf = vmlinux()
    found = btf.type(btf.by_name("xdp_action", Kind.ENUM))
    assert {row.name: row.value for row in found.values} == {v.name: v for v in XdpAction}  # type: ignore[attr-defined]


def test_protocol_numbers() -> None:
    # IANA, "Protocol Numbers" and "IEEE 802 Numbers"
    assert (IpProto.ICMP, IpProto.TCP, IpProto.UDP, IpProto.ICMPV6) == (1, 6, 17, 58)
    assert (EtherType.IP, EtherType.ARP, EtherType.IPV6, EtherType.VLAN) == (0x0800, 0x0806, 0x86DD, 0x8100)
    assert EtherType.VLAN_AD == 0x88A8
