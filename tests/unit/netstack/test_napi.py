"""Times follow from profile skx3: an interrupt takes 600 ns, a frame up to its socket 200 ns."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.headers import EthHdr, IpHdr, ip_bytes, udp_bytes

IRQ_NS, FRAME_NS = 600, 200


def datagram(mark: int, port: int = 7, dst: int = 0x0A000002) -> bytes:
    payload = udp_bytes(0x0A000001, dst, 1, port, mark.to_bytes(4, "big"))
    packet = ip_bytes(IpHdr(0x45, 0, 0, 0, 0, 64, 17, 0, 0x0A000001, dst), payload)
    return EthHdr(b"\xff" * 6, b"\x02\0\0\0\0\1", 0x0800).pack() + packet


def times(sock) -> list[int]:
    return [received.time_ns for received in sock.received]


@pytest.fixture
def receiver(lab):
    """A host whose eth0 gets frames at given instants; returns (net, socket, send)."""
    a, b = lab.pair()
    sock = b.udp_socket(port=7)

    def send(*instants: int) -> None:
        for mark, when_ns in enumerate(instants):
            lab.clock.call_at(when_ns, lambda mark=mark: a.devices["eth0"].inject(datagram(mark)))
        lab.run()

    return b, sock, send


def test_one_interrupt_serves_frames_that_arrive_together(receiver) -> None:
    _net, sock, send = receiver
    send(0, 0, 0)
    assert times(sock) == [IRQ_NS + FRAME_NS, IRQ_NS + 2 * FRAME_NS, IRQ_NS + 3 * FRAME_NS]


def test_a_frame_that_arrives_during_the_interrupt_or_the_poll_needs_no_interrupt(receiver) -> None:
    _net, sock, send = receiver
    send(0, 100, 700, 1_150)
    # 0 and 100 are in the ring when the poll begins at 600, 700 is found at 1000, 1150 at 1200
    assert times(sock) == [800, 1_000, 1_200, 1_400]


def test_the_interrupt_is_unmasked_when_the_ring_is_empty(receiver) -> None:
    _net, sock, send = receiver
    send(0, 801, 10_000)
    # the poll ended at 800; the next two frames interrupt again
    assert times(sock) == [800, 801 + IRQ_NS + FRAME_NS, 10_000 + IRQ_NS + FRAME_NS]


def test_queues_of_one_cpu_are_polled_in_turn_64_frames_each(lab) -> None:
    b = lab.net("b")
    order = []
    for name, address, port in (("eth0", "10.0.0.2/24", 7), ("eth1", "10.0.1.2/24", 8)):
        nic = b.add_nic(name, address)
        sender = lab.net(f"sender of {name}").add_nic("eth0")
        lab.connect(sender, nic)
        sock = b.udp_socket(port=port)
        sock.deliver = lambda time_ns, source, data, name=name: order.append((time_ns, name))
        dst = nic.addresses[0].address
        for mark in range(100):
            lab.clock.call_at(0, lambda s=sender, m=mark, p=port, d=dst: s.inject(datagram(m, p, d)))
    lab.run()
    assert [name for _, name in order] == ["eth0"] * 64 + ["eth1"] * 64 + ["eth0"] * 36 + ["eth1"] * 36
    # both interrupts come first, then the CPU does one thing at a time
    assert [time_ns for time_ns, _ in order] == [2 * IRQ_NS + FRAME_NS * (i + 1) for i in range(200)]


def test_cpus_work_at_the_same_time(lab) -> None:
    b = lab.net("b", cpus=2)
    nic = b.add_nic("eth0", "10.0.0.2/24", queues=2)
    sender = lab.net("a").add_nic("eth0")
    lab.connect(sender, nic)
    sock = b.udp_socket(port=7)
    by_queue = {0: 0, 1: 0}
    for source in range(200):
        payload = udp_bytes(0x0A000001, 0x0A000002, source + 1, 7, b"x")
        packet = ip_bytes(IpHdr(0x45, 0, 0, 0, 0, 64, 17, 0, 0x0A000001, 0x0A000002), payload)
        sender.inject(EthHdr(b"\xff" * 6, b"\x02\0\0\0\0\1", 0x0800).pack() + packet)
    lab.run()
    for record in lab.frames(b, "in"):
        by_queue[record.queue] += 1
    # a Toeplitz hash spreads 200 flows over two queues about evenly
    assert min(by_queue.values()) > 60
    expected = [IRQ_NS + FRAME_NS * (i + 1) for count in by_queue.values() for i in range(count)]
    assert sorted(times(sock)) == sorted(expected)
    assert [queue.rx_packets for queue in nic.queues] == list(by_queue.values())


def test_charges_outside_a_poll_take_time_too(lab) -> None:
    b = lab.net("b")
    b.cpus[0].charge(2_500)
    b.softnet[0].settle()
    lab.run()
    assert (lab.clock.now_ns, b.cpus[0].elapsed_ps) == (2, 500)


@given(instants=st.lists(st.integers(0, 30_000), min_size=1, max_size=150), cpus=st.integers(1, 3))
def test_a_cpu_does_one_thing_at_a_time(new_lab, instants, cpus) -> None:
    lab = new_lab()
    b = lab.net("b", cpus=cpus)
    nic = b.add_nic("eth0", "10.0.0.2/24", queues=cpus)
    sender = lab.net("a").add_nic("eth0")
    lab.connect(sender, nic)
    lab.attach(nic, "r0 = 1; exit")
    for index, when_ns in enumerate(instants):
        frame = datagram(index, port=index % 50 + 1)
        lab.clock.call_at(when_ns, lambda frame=frame: sender.inject(frame))
    lab.run()
    assert nic.stats.rx_packets == len(instants) == sum(queue.rx_packets for queue in nic.queues)
    for cpu in range(cpus):
        runs = [run for run in lab.recorder.runs if run.cpu == cpu]
        # the driver takes 31 ns for each frame, the program comes on top
        assert all(later.time_ns - run.time_ns >= 31 for run, later in pairwise(runs))
    first = min(run.time_ns for run in lab.recorder.runs)
    assert first == min(instants) + IRQ_NS + 31
    assert all(not softnet.poll_list for softnet in b.softnet)
