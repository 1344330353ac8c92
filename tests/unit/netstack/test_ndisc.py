"""What advertisements change (RFC 4861, 7.2.5 and appendix C)."""

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import Ether

from netstack.headers6 import parse_ip6
from netstack.neigh import NeighFlag, Nud

TARGET = "2001:db8::2"
OLD, NEW = "02:00:00:00:00:11", "02:00:00:00:00:22"


@pytest.mark.parametrize(
    ("state", "solicited", "override", "same", "after", "takes"),
    [
        (Nud.STALE, 1, 1, False, Nud.REACHABLE, True),
        (Nud.STALE, 0, 1, False, Nud.STALE, True),
        (Nud.REACHABLE, 1, 0, True, Nud.REACHABLE, False),
        # without override another address is not taken; a reachable entry is no longer sure
        (Nud.REACHABLE, 1, 0, False, Nud.STALE, False),
        (Nud.STALE, 1, 0, False, Nud.STALE, False),
        (Nud.REACHABLE, 0, 0, True, Nud.REACHABLE, False),
    ],
)
def test_advertisements(lab, state, solicited, override, same, after, takes) -> None:
    a, b = lab.net("a"), lab.net("b")
    eth0, sender = a.add_nic("eth0", "2001:db8::1/64"), b.add_nic("eth0")
    lab.connect(eth0, sender)
    table, cpu = a.neigh6, a.cpus[0]
    neigh = table.create(eth0, parse_ip6(TARGET), cpu)
    table.update(neigh, bytes.fromhex(OLD.replace(":", "")), state, cpu, NeighFlag.OVERRIDE | NeighFlag.ADMIN)
    message = ICMPv6ND_NA(tgt=TARGET, S=solicited, O=override, R=1) / ICMPv6NDOptDstLLAddr(lladdr=OLD if same else NEW)
    frame = Ether(dst=eth0.mac.hex(":"), src=NEW) / IPv6(src=TARGET, dst="2001:db8::1", hlim=255) / message
    sender.inject(bytes(frame))
    lab.run()
    assert (neigh.state, neigh.mac.hex(":") == NEW) == (after, takes)


def test_advertisements_make_no_entry(lab) -> None:
    a, b = lab.net("a"), lab.net("b")
    eth0, sender = a.add_nic("eth0", "2001:db8::1/64"), b.add_nic("eth0")
    lab.connect(eth0, sender)
    message = ICMPv6ND_NA(tgt=TARGET) / ICMPv6NDOptDstLLAddr(lladdr=NEW)
    frame = Ether(dst=eth0.mac.hex(":"), src=NEW) / IPv6(src=TARGET, dst="2001:db8::1", hlim=255) / message
    sender.inject(bytes(frame))
    lab.run()
    assert a.neigh6.lookup(eth0, parse_ip6(TARGET)) is None
