import pytest

from ebpfsim.errors import InputError, KernelError


def test_automatic_mac_addresses_name_host_and_device(lab) -> None:
    first, second = lab.net("a"), lab.net("b")
    macs = [net.add_nic(name).mac.hex(":") for net in (first, second) for name in ("eth0", "eth1")]
    assert macs == ["02:00:00:00:01:01", "02:00:00:00:01:02", "02:00:00:00:02:01", "02:00:00:00:02:02"]


def test_devices_have_ascending_numbers_and_lo_is_the_first(lab) -> None:
    net = lab.net("a")
    nics = [net.add_nic("eth0"), net.add_nic("eth1", mac="02:00:00:00:00:99")]
    assert [(dev.name, dev.ifindex) for dev in net.devices.values()] == [("lo", 1), ("eth0", 2), ("eth1", 3)]
    assert [net.dev_get_by_index(ifindex) for ifindex in (1, 2, 3, 4)] == [net.loopback, *nics, None]
    assert nics[1].mac == b"\x02\0\0\0\0\x99"
    assert repr(nics[0]) == "<Nic a/eth0>"


@pytest.mark.parametrize("name", ["", "a" * 16, "et h", "a/b", " eth0"])
def test_bad_device_names(lab, name) -> None:
    with pytest.raises(InputError, match="is not 1 to 15 characters without spaces and slashes"):
        lab.net("a").add_nic(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "lo"}, "host 'a' has a device 'lo' already"),
        ({"name": "e", "mtu": 67}, "mtu 67 of 'a/e' is not between 68 and 65535 bytes"),
        ({"name": "e", "mac": "zz"}, "'zz' is not a MAC address"),
        ({"name": "e", "mac": "03:00:00:00:00:01"}, "03:00:00:00:00:01 is not the address of one device"),
        ({"name": "e", "mac": "00:00:00:00:00:00"}, "00:00:00:00:00:00 is not the address of one device"),
        ({"name": "e", "addresses": "10.0.0.1"}, "'10.0.0.1' is not an address with a prefix length"),
        ({"name": "e", "addresses": "10.0.0"}, "'10.0.0' is not an address with a prefix length"),
        ({"name": "e", "addresses": ["10.0.0.1/24", "10.0.0.1/33"]}, "'10.0.0.1/33' is not an address"),
    ],
)
def test_bad_devices(lab, arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        lab.net("a").add_nic(**arguments)


def test_an_address_is_added_once(lab) -> None:
    net = lab.net("a")
    nic = net.add_nic("eth0", "10.0.0.1/24")
    with pytest.raises(KernelError, match=r"10\.0\.0\.1/24 on a/eth0") as caught:
        net.add_address(nic, "10.0.0.1/24")
    assert caught.value.errno_name == "EEXIST"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "10.0.0.1/8", "dev": "lo"}, "route to '10.0.0.1/8': 10.0.0.1/8 has host bits set"),
        ({"to": "default"}, "route to default on 'a' names neither a gateway nor a device"),
        ({"to": "default", "via": "gw"}, "'gw' is not an IPv4 address"),
    ],
)
def test_bad_routes(lab, arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        lab.net("a").add_route(**arguments)


def test_source_address_selection(lab) -> None:
    net = lab.net("a")
    one = net.add_nic("eth0", ["10.0.0.1/24", "10.1.0.1/24"])
    two = net.add_nic("eth1")
    lonely = lab.net("b").add_nic("eth0")
    # inet_select_addr: the address whose network holds the destination, else the first, else another device's
    assert net.select_addr(one, 0x0A01_0005) == 0x0A01_0001
    assert net.select_addr(one, 0x0808_0808) == 0x0A00_0001
    assert net.select_addr(two, 0x0A01_0005) == 0x0A00_0001
    assert lonely.net.select_addr(lonely, 0x0A01_0005) == 0


def test_three_hosts_with_a_router(lab) -> None:
    a, r, b = lab.net("a"), lab.net("r", sysctl={"net.ipv4.ip_forward": 1}), lab.net("b")
    lab.connect(a.add_nic("eth0", "10.0.1.1/24"), r.add_nic("eth0", "10.0.1.254/24"), rate_bps=10**9, delay_ns=50_000)
    lab.connect(r.add_nic("eth1", "10.0.2.254/24"), b.add_nic("eth0", "10.0.2.1/24"), rate_bps=10**8, delay_ns=10_000)
    a.add_route("default", via="10.0.1.254")
    b.add_route("default", via="10.0.2.254")
    echo = b.udp_socket(port=7)
    sock = a.udp_socket()
    for number in range(20):
        lab.clock.call_at(
            10_000_000 + number * 100_000, lambda number=number: sock.sendto(b"%d" % number, "10.0.2.1", 7)
        )
    lab.run()
    assert [datagram.data for datagram in echo.received] == [b"%d" % number for number in range(20)]
    # after ARP has settled: 84 bytes at 1 Gbit (672 ns) and 100 Mbit (6,720 ns), both delays, 800 ns at each receiver
    last = 10_000_000 + 19 * 100_000 + 672 + 50_000 + 800 + 6_720 + 10_000 + 800
    assert echo.received[-1].time_ns == last
    assert a.drops == r.drops == b.drops == {}
    assert (r.snmp["IpForwDatagrams"], b.snmp["UdpInDatagrams"]) == (20, 20)


def test_same_seed_same_records(new_lab) -> None:
    def run() -> list:
        lab = new_lab(3)
        a, b = lab.pair(rate_bps=10**9, delay_ns=10, loss=0.2)
        b.udp_socket(port=7)
        sock = a.udp_socket()
        for _ in range(50):
            sock.sendto(b"x", "10.0.0.2", 7)
        lab.run()
        return [(r.time_ns, r.host, r.direction, r.data, r.reason) for r in lab.recorder.packets]

    assert run() == run()


def test_every_packet_record_is_in_order_of_time(lab) -> None:
    a, b = lab.pair(rate_bps=10**9, delay_ns=1000)
    sock = a.udp_socket()
    for number in range(40):
        lab.clock.call_at(number * 500, lambda: sock.sendto(b"x", "10.0.0.2", 99))
    lab.run()
    times = [record.time_ns for record in lab.recorder.packets]
    assert times == sorted(times)
    assert b.drops == {"NO_SOCKET": 40}
    # icmp_ratelimit: six at once for a destination
    assert len(sock.errors) == 6
