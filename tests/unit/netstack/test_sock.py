"""What the errnos are was measured on Linux 6.18.44 with the same calls."""

import pytest

from ebpfsim.errors import KernelError, NotModelled


@pytest.fixture
def pair(lab):
    a, b = lab.pair()
    a.add_address(a.devices["eth0"], "10.0.0.7/24")
    lab.know(a, b)
    return a, b


@pytest.mark.parametrize(
    ("size", "address", "port", "errno"),
    [
        (1, "10.0.0.255", 9, "EACCES"),
        (1, "10.0.0.2", 0, "EINVAL"),
        (65508, "10.0.0.2", 9, "EMSGSIZE"),
        (1, "99.0.0.2", 9, "ENETUNREACH"),
        (1, "240.0.0.1", 9, "ENETUNREACH"),
    ],
)
def test_sendto_refuses(pair, size, address, port, errno) -> None:
    with pytest.raises(KernelError) as caught:
        pair[0].udp_socket().sendto(b"x" * size, address, port)
    assert caught.value.errno_name == errno


@pytest.mark.parametrize(
    ("size", "address", "feature"),
    [
        (1, "239.0.0.1", "sending to IPv4 multicast groups"),
        (1, "255.255.255.255", "sending to 255.255.255.255"),
    ],
)
def test_sendto_says_what_is_not_modelled(pair, size, address, feature) -> None:
    with pytest.raises(NotModelled, match=feature):
        pair[0].udp_socket().sendto(b"x" * size, address, 9)


def test_largest_datagram_of_an_mtu(lab, pair) -> None:
    a, b = pair
    received = b.udp_socket(port=9)
    a.udp_socket().sendto(b"x" * 1472, "10.0.0.2", 9)
    lab.run()
    assert [len(datagram.data) for datagram in received.received] == [1472]
    # DF, and an id that counts up (seen on Linux 6.18)
    (record,) = lab.frames(a, "out")
    assert record.data[18:22] == b"\0\1\x40\0"
    assert len(record.data) == 1514


def test_bind(pair) -> None:
    a = pair[0]
    for address, errno in (("10.0.0.77", "EADDRNOTAVAIL"), ("8.8.8.8", "EADDRNOTAVAIL")):
        with pytest.raises(KernelError) as caught:
            a.udp_socket(address, 53)
        assert caught.value.errno_name == errno
    a.udp_socket("10.0.0.255", 53)
    first = a.udp_socket("10.0.0.1", 53)
    a.udp_socket("10.0.0.7", 53)
    for address in ("0.0.0.0", "10.0.0.1"):
        with pytest.raises(KernelError, match="UDP port 53 of a") as caught:
            a.udp_socket(address, 53)
        assert caught.value.errno_name == "EADDRINUSE"
    first.close()
    assert repr(a.udp_socket("10.0.0.1", 53)) == "<UdpSocket a 10.0.0.1:53>"
    with pytest.raises(KernelError, match="port 65536"):
        a.udp_socket(port=65536)


def test_free_ports_differ_and_are_reused(pair) -> None:
    a = pair[0]
    first, second = a.udp_socket(), a.udp_socket()
    # net.ipv4.ip_local_port_range begins at 32768
    assert (first.port, second.port) == (32768, 32769)
    first.close()
    assert a.udp_socket().port == 32768


def test_specific_address_comes_before_any(lab, pair) -> None:
    a, b = pair
    # two sockets on one port need different addresses
    b.add_address(b.devices["eth0"], "10.0.0.3/24")
    one, other = b.udp_socket("10.0.0.2", 53), b.udp_socket("10.0.0.3", 53)
    a.neigh.add(a.devices["eth0"], 0x0A000003, b.devices["eth0"].mac)
    sock = a.udp_socket()
    sock.sendto(b"2", "10.0.0.2", 53)
    sock.sendto(b"3", "10.0.0.3", 53)
    lab.run()
    assert [[d.data for d in s.received] for s in (one, other)] == [[b"2"], [b"3"]]


def test_source_address_follows_the_route_or_the_binding(lab, pair) -> None:
    a, b = pair
    received = b.udp_socket(port=9)
    a.udp_socket().sendto(b"1", "10.0.0.2", 9)
    a.udp_socket("10.0.0.7", 54).sendto(b"2", "10.0.0.2", 9)
    lab.run()
    assert [d.source for d in received.received] == [("10.0.0.1", 32768), ("10.0.0.7", 54)]


def test_loopback_source_does_not_leave_the_host(pair) -> None:
    with pytest.raises(KernelError, match=r"source 127\.0\.0\.1 does not leave a") as caught:
        pair[0].udp_socket("127.0.0.1").sendto(b"x", "10.0.0.200", 9)
    assert caught.value.errno_name == "EINVAL"


def test_recvfrom_reads_in_order_and_then_has_nothing(lab, pair) -> None:
    a, b = pair
    received = b.udp_socket(port=9)
    with pytest.raises(KernelError) as caught:
        received.recvfrom()
    assert caught.value.errno_name == "EAGAIN"
    sock = a.udp_socket()
    sock.sendto(b"1", "10.0.0.2", 9)
    sock.sendto(b"2", "10.0.0.2", 9)
    lab.run()
    assert [received.recvfrom().data, received.recvfrom().data] == [b"1", b"2"]
    assert len(received.received) == 2


def test_broadcast_needs_permission_and_reaches_the_others(lab, pair) -> None:
    a, b = pair
    received = b.udp_socket(port=9)
    sock = a.udp_socket()
    sock.broadcast = True
    sock.sendto(b"x", "10.0.0.255", 9)
    lab.run()
    assert [d.data for d in received.received] == [b"x"]
    assert lab.frames(a, "out")[0].data[:6] == b"\xff" * 6
