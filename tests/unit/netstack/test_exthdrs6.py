"""Extension headers of IPv6 beyond those that Linux was asked about: how many options, where they count."""

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether


@pytest.mark.parametrize("header", [IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt])
@pytest.mark.parametrize(("count", "reason"), [(8, ""), (9, "IP_INHDR")])
def test_eight_options_are_enough(lab, header, count: int, reason: str) -> None:
    """net.ipv6.max_hbh_opts_number and max_dst_opts_number are 8."""
    a, b = lab.net("a"), lab.net("b")
    lab.connect(a.add_nic("eth0"), b.add_nic("eth0", "fd00::2/64"))
    sock = b.udp_socket6(port=9)
    options = [HBHOptUnknown(otype=0x1E, optdata=b"") for _ in range(count)]
    packet = IPv6(src="fd00::1", dst="fd00::2") / header(options=options) / UDP(dport=9) / b"x"
    a.devices["eth0"].inject(bytes(Ether(src="02:00:00:00:00:01", dst=b.devices["eth0"].mac.hex(":")) / packet))
    lab.run()
    (received,) = lab.frames(b, "in")
    assert (received.reason, len(sock.received)) == (reason, int(not reason))
    assert b.snmp["Ip6InHdrErrors"] == int(bool(reason))
