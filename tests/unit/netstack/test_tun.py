"""tun and tap: the other end is this test, with scapy."""

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from ebpfsim import Simulation
from ebpfsim.errors import KernelError


def test_a_tun_carries_packets() -> None:
    sim = Simulation(seed=1)
    host = sim.host("h")
    tun = host.tun("tun0", address=["10.9.0.1/24", "fd00::1/64"])
    tun.write(IP(src="10.9.0.2", dst="10.9.0.1") / ICMP(id=7) / b"abc")
    sim.run(until="1ms")
    reply = IP(tun.read())
    assert (reply.src, reply.dst, reply[ICMP].type, reply[ICMP].id) == ("10.9.0.1", "10.9.0.2", 0, 7)
    sock = host.udp_socket6(port=9)
    tun.write(IPv6(src="fd00::2", dst="fd00::1") / UDP(dport=9) / b"six")
    sim.run(until="2ms")
    assert [row.data for row in sock.received] == [b"six"]
    host.udp_socket().sendto(b"out", "10.9.0.77", 9)
    assert bytes(IP(tun.read())[UDP].payload) == b"out"
    assert (tun.stats.rx_packets, tun.stats.tx_packets) == (2, 2)
    with pytest.raises(KernelError, match="EAGAIN"):
        tun.read()
    with pytest.raises(KernelError, match="EINVAL"):
        tun.write(b"\x10abc")


def test_a_tap_carries_frames_and_answers_at_once() -> None:
    sim = Simulation(seed=1)
    host = sim.host("h")
    tap = host.tun("tap0", mode="tap", address="10.9.0.1/24", mac="02:00:00:00:00:01")

    def answer(frame: bytes) -> None:
        asked = Ether(frame)
        if ARP in asked:
            tap.write(Ether(dst=asked.src) / ARP(op=2, hwsrc="02:00:00:00:00:02", psrc=asked.pdst, pdst=asked.psrc))

    tap.reader = answer
    sock = host.udp_socket()
    sock.sendto(b"hello", "10.9.0.2", 9)
    sim.run(until="1ms")
    sent = [Ether(row.data) for row in sim.recorder.packets if row.direction == "out"]
    assert [frame.payload.name for frame in sent] == ["ARP", "IP"]
    assert sent[1].dst == "02:00:00:00:00:02"
    with pytest.raises(KernelError, match="EINVAL"):
        tap.write(b"short")


def test_who_does_not_read_loses_packets() -> None:
    sim = Simulation(seed=1)
    host = sim.host("h")
    tun = host.tun("tun0", address="10.9.0.1/24")
    sock = host.udp_socket()
    for _ in range(503):
        sock.sendto(b"x", "10.9.0.2", 9)
    assert (len(tun.frames), tun.stats.tx_dropped) == (500, 3)
    with pytest.raises(KernelError, match="tun or tap"):
        host.tun("t1", mode="tup")
