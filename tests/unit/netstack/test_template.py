"""Frames from templates: the bytes that scapy builds for the same fields."""

import random

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from ebpfsim.errors import InputError
from netstack.template import FIELDS, Template

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4, V6 = IP(src="1.2.3.4", dst="4.3.2.1"), IPv6(src="fd00::1", dst="fd00::2")


@pytest.mark.parametrize(
    "packet",
    [ETHER / V4 / TCP(flags="S"), ETHER / Dot1Q(vlan=3) / V4 / UDP() / b"abc", ETHER / V6 / UDP() / b"abc",
     ETHER / V6 / TCP() / b"abc", ETHER / IP(src="1.2.3.4", dst="4.3.2.1", proto=50) / b"xyz"],
    ids=["tcp", "vlan-udp", "udp6", "tcp6", "esp"],
)  # fmt: skip
def test_changed_fields_and_sums(packet) -> None:
    template, source = Template(bytes(packet)), random.Random(1)
    for _ in range(40):
        values = {
            name: source.getrandbits(8 * size)
            for name, (_, size, _, _) in template.fields.items()
            if source.random() < 0.6
        }
        made = Ether(template.frame(**values))
        again = made.copy()
        for layer in (IP, TCP, UDP):
            if layer in again:
                del again[layer].chksum
        assert bytes(again) == bytes(made)
        for name, (offset, size, _, _) in template.fields.items():
            if name in values:
                assert bytes(made)[offset : offset + size] == values[name].to_bytes(size, "big")


def test_a_datagram_without_a_sum_stays_one() -> None:
    template = Template(bytes(ETHER / V4 / UDP(chksum=0) / b"x"))
    assert Ether(template.frame(sport=7, src=5))[UDP].chksum == 0


def test_a_sum_of_zero_is_sent_as_all_ones() -> None:
    """RFC 768: of all source ports one makes the sum zero."""
    template = Template(bytes(ETHER / V4 / UDP() / b"x"))
    sums = {template.frame(sport=port)[40:42] for port in range(0x10000)}
    assert b"\0\0" not in sums
    assert b"\xff\xff" in sums


def test_what_is_no_template() -> None:
    with pytest.raises(InputError, match="0x0806"):
        Template(bytes(ETHER / ARP()))
    with pytest.raises(KeyError):
        Template(bytes(ETHER / V6)).frame(sport=1)
    assert set(Template(bytes(ETHER / V4 / TCP())).fields) == set(FIELDS)
