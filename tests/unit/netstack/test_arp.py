"""ARP and the states of neighbours: RFC 826, RFC 1122 (2.3.2), RFC 5227; NUD as in net/core/neighbour.c."""

import pytest
from scapy.layers.l2 import ARP, Ether

from netstack.arp import ArpOp
from netstack.neigh import NeighFlag, Nud

A, B = 0x0A000001, 0x0A000002
SECOND = 10**9


@pytest.fixture
def pair(lab):
    return lab.pair()


def arps(lab, net) -> list[ARP]:
    frames = [record.data for record in lab.frames(net, "out")]
    return [Ether(frame)[ARP] for frame in frames if frame[12:14] == b"\x08\x06"]


def requests(lab, net) -> list[ARP]:
    return [arp for arp in arps(lab, net) if arp.op == ArpOp.REQUEST]


def entry(net, address: int):
    return net.neigh.lookup(net.devices["eth0"], address)


def until(lab, seconds: float) -> None:
    lab.clock.run(lab.clock.now_ns + int(seconds * SECOND))


def test_a_request_is_answered_and_teaches(lab, pair) -> None:
    a, b = pair
    a.udp_socket().sendto(b"x", "10.0.0.2", 9)
    lab.run()
    (request,), (reply,) = arps(lab, a), arps(lab, b)
    assert (request.op, request.psrc, request.pdst, request.hwdst) == (
        ArpOp.REQUEST, "10.0.0.1", "10.0.0.2", "00:00:00:00:00:00",
    )  # fmt: skip
    assert (reply.op, reply.psrc, reply.pdst, reply.hwdst) == (ArpOp.REPLY, "10.0.0.2", "10.0.0.1", request.hwsrc)
    # the asker is confirmed by the answer; who was asked has it from a request only, and has used it
    assert (entry(a, B).state, entry(b, A).state) == (Nud.REACHABLE, Nud.DELAY)


def test_reachable_becomes_stale_and_is_probed_when_used(lab, pair) -> None:
    a, _ = pair
    sock = a.udp_socket()
    sock.sendto(b"x", "10.0.0.2", 9)
    # reachable for half to one and a half of 30 s
    until(lab, 14)
    assert entry(a, B).state == Nud.REACHABLE
    until(lab, 32)
    assert entry(a, B).state == Nud.STALE
    before = len(requests(lab, a))
    sock.sendto(b"x", "10.0.0.2", 9)
    assert entry(a, B).state == Nud.DELAY
    until(lab, 4.9)
    assert (entry(a, B).state, len(requests(lab, a))) == (Nud.DELAY, before)
    until(lab, 0.2)
    # RFC 1122, 2.3.2.1: a unicast poll, which is answered
    probe = requests(lab, a)[-1]
    assert (len(requests(lab, a)), probe.pdst) == (before + 1, "10.0.0.2")
    assert probe.underlayer.dst == entry(a, B).mac.hex(":")
    assert entry(a, B).state == Nud.REACHABLE


def test_a_neighbour_that_is_gone_fails_after_three_probes(lab, pair) -> None:
    a, b = pair
    sock = a.udp_socket()
    sock.sendto(b"x", "10.0.0.2", 9)
    until(lab, 46)
    b.packet_handlers.clear()
    sock.sendto(b"x", "10.0.0.2", 9)
    before = len(requests(lab, a))
    until(lab, 5.5)
    assert entry(a, B).state == Nud.PROBE
    until(lab, 3)
    assert (entry(a, B).state, len(requests(lab, a)) - before) == (Nud.FAILED, 3)


def test_unresolved_requests_are_a_second_apart(lab, pair) -> None:
    a, _ = pair
    a.udp_socket().sendto(b"x", "10.0.0.9", 9)
    lab.run()
    times = [record.time_ns for record in lab.frames(a, "out") if record.data[12:14] == b"\x08\x06"]
    assert times == [0, SECOND, 2 * SECOND]
    assert entry(a, 0x0A000009).state == Nud.FAILED


@pytest.mark.parametrize(
    ("old", "new", "same", "flags", "state", "takes"),
    [
        # __neigh_update(): what becomes of an entry and whether it takes the new address
        (Nud.REACHABLE, Nud.STALE, True, NeighFlag.OVERRIDE, Nud.REACHABLE, False),
        (Nud.REACHABLE, Nud.STALE, False, NeighFlag.OVERRIDE, Nud.STALE, True),
        (Nud.REACHABLE, Nud.STALE, False, NeighFlag.NONE, Nud.REACHABLE, False),
        (Nud.REACHABLE, Nud.REACHABLE, False, NeighFlag.WEAK_OVERRIDE, Nud.STALE, False),
        (Nud.STALE, Nud.REACHABLE, True, NeighFlag.NONE, Nud.REACHABLE, False),
        (Nud.STALE, Nud.REACHABLE, False, NeighFlag.OVERRIDE, Nud.REACHABLE, True),
        (Nud.PERMANENT, Nud.REACHABLE, False, NeighFlag.OVERRIDE, Nud.PERMANENT, False),
        (Nud.PERMANENT, Nud.STALE, False, NeighFlag.OVERRIDE | NeighFlag.ADMIN, Nud.STALE, True),
    ],
)
def test_updates(lab, pair, old, new, same, flags, state, takes) -> None:
    a, _ = pair
    dev, cpu = a.devices["eth0"], a.cpus[0]
    neigh = a.neigh.create(dev, B, cpu)
    first, second = b"\x02\0\0\0\0\x11", b"\x02\0\0\0\0\x22"
    a.neigh.update(neigh, first, old, cpu, NeighFlag.OVERRIDE | NeighFlag.ADMIN)
    a.neigh.update(neigh, first if same else second, new, cpu, flags)
    assert (neigh.state, neigh.mac == second) == (state, takes)


def test_a_gratuitous_request_changes_what_is_known(lab, pair) -> None:
    a, b = pair
    a.udp_socket().sendto(b"x", "10.0.0.2", 9)
    lab.run()
    announce = Ether(dst="ff:ff:ff:ff:ff:ff", src="02:00:00:00:00:77") / ARP(
        op=1, hwsrc="02:00:00:00:00:77", psrc="10.0.0.2", pdst="10.0.0.2"
    )
    b.devices["eth0"].inject(bytes(announce))
    lab.run()
    assert (entry(a, B).mac.hex(), entry(a, B).state) == ("020000000077", Nud.STALE)


def test_the_first_of_several_replies_counts(lab, pair) -> None:
    # net.ipv4.neigh.default.locktime
    a, b = pair
    a.udp_socket().sendto(b"x", "10.0.0.2", 9)
    lab.run()
    mac = entry(a, B).mac
    other = Ether(dst=a.devices["eth0"].mac, src="02:00:00:00:00:77") / ARP(
        op=2, hwsrc="02:00:00:00:00:77", psrc="10.0.0.2", pdst="10.0.0.1", hwdst=a.devices["eth0"].mac.hex(":")
    )
    b.devices["eth0"].inject(bytes(other))
    lab.run()
    assert entry(a, B).mac == mac


def test_an_address_probe_is_answered_and_teaches_nothing(lab, pair) -> None:
    # RFC 5227, 2.1.1: sender address 0
    a, b = pair
    probe = Ether(dst="ff:ff:ff:ff:ff:ff", src=b.devices["eth0"].mac) / ARP(op=1, psrc="0.0.0.0", pdst="10.0.0.1")
    b.devices["eth0"].inject(bytes(probe))
    lab.run()
    assert [reply.pdst for reply in arps(lab, a)] == ["0.0.0.0"]
    assert entry(a, 0) is None


def test_struct_neighbour_shows_the_entry(lab, pair) -> None:
    a, _ = pair
    a.udp_socket().sendto(b"x", "10.0.0.2", 9)
    lab.run()
    neigh, mem = entry(a, B), a.kernel.mem
    from ebpfsim.btf.view import place

    address = neigh.struct_address
    assert mem.load(address + place("neighbour", "nud_state")[0], 1) == Nud.REACHABLE
    assert mem.read(address + place("neighbour", "ha")[0], 6) == neigh.mac
    assert mem.read(address + place("neighbour", "primary_key")[0], 4) == bytes((10, 0, 0, 2))
    assert mem.load(address + place("neighbour", "dev")[0], 8) == a.devices["eth0"].struct_address
