"""Sources and devices are those of Linux 6.18.44 with the same addresses."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.uapi.flags import XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE
from netstack.napi import local_bh_enable, softnet_of


@pytest.fixture
def net(lab):
    net = lab.net("a")
    net.add_nic("eth0", ["10.0.0.1/24", "10.0.0.7/24"])
    return net


@pytest.mark.parametrize(
    ("destination", "source"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1.2.3", "127.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.7", "10.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
    ],
)
def test_packets_to_oneself(lab, net, destination, source) -> None:
    received = net.udp_socket(port=9)
    net.udp_socket().sendto(b"hello", destination, 9)
    lab.run()
    assert [(d.source.address, d.data) for d in received.received] == [(source, b"hello")]
    assert lab.frames(net, "out", "eth0") == []
    for direction in ("out", "in"):
        (record,) = lab.frames(net, direction, "lo")
        # addresses of zero and EtherType IPv4
        assert record.data[:14] == bytes(12) + b"\x08\0"
    stats = net.loopback.stats
    assert (stats.tx_packets, stats.rx_packets, stats.tx_bytes, stats.rx_bytes) == (1, 1, 47, 47)


def test_closed_port_is_reported_to_oneself(lab, net) -> None:
    sock = net.udp_socket()
    sock.sendto(b"hello", "127.0.0.1", 9)
    lab.run()
    assert [(error.errno.name, error.offender) for error in sock.errors] == [("ECONNREFUSED", "127.0.0.1")]
    assert net.drops == {"NO_SOCKET": 1}


def test_ping_oneself(lab, net) -> None:
    sock = net.ping_socket()
    sock.send_echo("10.0.0.1", b"x")
    lab.run()
    assert [d.data for d in sock.received] == [b"x"]


def test_the_stack_takes_time_but_no_interrupt(lab, net) -> None:
    received = net.udp_socket(port=9)
    net.udp_socket().sendto(b"hello", "127.0.0.1", 9)
    lab.run()
    # skx3: the stack's part of stack.rx (200 ns) without driver (31) and skb (60)
    assert received.received[0].time_ns == 109


def test_backlog_is_limited(lab) -> None:
    net = lab.net("a", sysctl={"net.core.netdev_max_backlog": 3})
    received = net.udp_socket(port=9)
    sock = net.udp_socket()
    # a task that sends receives before it goes on, unless it has forbidden that
    softnet_of(net.cpus[0]).bh_off += 1
    for _ in range(6):
        sock.sendto(b"x", "127.0.0.1", 9)
    local_bh_enable(net.cpus[0])
    # enqueue_to_backlog takes a packet while the length is at most the limit: one more than it says
    assert (len(received.received), net.drops) == (4, {"CPU_BACKLOG": 2})


def test_native_xdp_is_refused_and_generic_runs(lab, net) -> None:
    with pytest.raises(KernelError) as caught:
        lab.attach(net.loopback, "r0 = 2; exit", XDP_FLAGS_DRV_MODE)
    assert caught.value.errno_name == "EOPNOTSUPP"
    link = lab.attach(net.loopback, "r0 = 1; exit", XDP_FLAGS_SKB_MODE)
    received = net.udp_socket(port=9)
    net.udp_socket().sendto(b"hello", "127.0.0.1", 9)
    lab.run()
    assert (received.received, link.verdicts) == ([], {"XDP_DROP": 1})
