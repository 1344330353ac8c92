"""Addresses that a packet leaves out come from the simulation, never from this machine."""

import socket

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from ebpfsim.errors import InputError
from ebpfsim.frames import Sender, build_frame
from ebpfsim.simulation import Simulation

MACS = {"10.0.0.2": "02:00:00:00:00:02"}
SENDER = Sender("02:00:00:00:00:01", "10.0.0.1", MACS.get)


def built(packet: object) -> Ether:
    return Ether(build_frame(packet, SENDER))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when scapy opens a socket."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    ("packet", "dst"),
    [
        (Ether() / IP(dst="10.0.0.2") / UDP(), "02:00:00:00:00:02"),
        (Ether() / Dot1Q(vlan=5) / IP(dst="10.0.0.2"), "02:00:00:00:00:02"),
        (IP(dst="10.0.0.2") / ICMP(), "02:00:00:00:00:02"),
        (Ether() / IP(dst="10.0.0.3"), "ff:ff:ff:ff:ff:ff"),
        (Ether(dst="02:00:00:00:00:09") / IP(dst="10.0.0.2"), "02:00:00:00:00:09"),
        (Ether() / ARP(pdst="10.0.0.2"), "ff:ff:ff:ff:ff:ff"),
        (Ether() / ARP(op=2, pdst="10.0.0.2", hwdst="02:00:00:00:00:02"), "02:00:00:00:00:02"),
        (Ether() / IP(dst="224.0.0.251"), "01:00:5e:00:00:fb"),  # RFC 1112 section 6.4
        (Ether() / IP(dst="239.129.2.3"), "01:00:5e:01:02:03"),
        (Ether() / IPv6(dst="ff02::1:ff00:1"), "33:33:ff:00:00:01"),  # RFC 2464 section 7
        (Ether() / b"anything", "ff:ff:ff:ff:ff:ff"),
    ],
)
def test_destination(packet: object, dst: str) -> None:
    found = built(packet)
    assert found.dst == dst
    assert found.src == "02:00:00:00:00:01"


def test_source_addresses() -> None:
    assert built(Ether() / IP(dst="10.0.0.2"))[IP].src == "10.0.0.1"
    assert built(Ether() / IP(src="192.0.2.7", dst="10.0.0.2"))[IP].src == "192.0.2.7"
    assert built(Ether() / IP(src=None, dst="10.0.0.2"))[IP].src == "10.0.0.1"
    arp = built(Ether() / ARP(pdst="10.0.0.2"))[ARP]
    assert (arp.hwsrc, arp.psrc, arp.hwdst) == ("02:00:00:00:00:01", "10.0.0.1", "00:00:00:00:00:00")


def test_packet_of_the_user_is_not_changed() -> None:
    packet = Ether() / IP(dst="10.0.0.2")
    build_frame(packet, SENDER)
    assert "src" not in packet.fields


def test_packet_that_cannot_be_built() -> None:
    with pytest.raises(InputError, match="packet cannot be built"):
        build_frame(Ether() / IP(dst="10.0.0.2", ttl=300), SENDER)


def test_next_hop_is_the_gateway_of_the_route() -> None:
    sim = Simulation()
    a, router = sim.host("a"), sim.host("router")
    nic, gateway = a.nic("eth0", "10.0.0.1/24"), router.nic("eth0", "10.0.0.254/24", mac="02:00:00:00:00:fe")
    sim.link(nic, gateway)
    a.net.add_route("default", via="10.0.0.254")
    a.send("eth0", Ether() / IP(dst="192.0.2.1") / UDP())
    sim.run()
    assert sim.recorder.packets[0].data[:6].hex(":") == "02:00:00:00:00:fe"
