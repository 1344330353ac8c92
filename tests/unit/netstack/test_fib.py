import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import KernelError
from netstack.fib import Fib, FibTable, Route, RouteType, prefix_mask
from netstack.flow import Flow4
from netstack.headers import parse_ip


def lookup(net, text: str) -> str:
    return str(net.fib.lookup(parse_ip(text)))


@pytest.fixture
def net(lab):
    net = lab.net("a")
    net.add_nic("eth0", ["10.0.0.1/24", "10.0.0.7/24"])
    net.add_nic("eth1", "192.168.1.1/31")
    net.add_nic("eth2", "172.16.0.1/32")
    return net


@pytest.mark.parametrize(
    ("destination", "route"),
    [
        # as `ip route get` says on Linux for these addresses
        ("10.0.0.1", "local 10.0.0.1/32 dev eth0"),
        ("10.0.0.7", "local 10.0.0.7/32 dev eth0"),
        ("10.0.0.200", "10.0.0.0/24 dev eth0"),
        ("10.0.0.255", "broadcast 10.0.0.255/32 dev eth0"),
        ("127.1.2.3", "local 127.0.0.0/8 dev lo"),
        # RFC 3021: no broadcast address in a /31; and a /32 has no network
        ("192.168.1.0", "192.168.1.0/31 dev eth1"),
        ("172.16.0.1", "local 172.16.0.1/32 dev eth2"),
        ("172.16.0.2", "None"),
        ("8.8.8.8", "None"),
    ],
)
def test_routes_that_addresses_bring(net, destination, route) -> None:
    assert lookup(net, destination) == route


def test_longest_prefix_wins_then_the_lowest_metric(net) -> None:
    net.add_route("default", via="10.0.0.254")
    net.add_route("20.0.0.0/8", via="10.0.0.253", metric=5)
    net.add_route("20.0.0.0/8", via="10.0.0.252")
    net.add_route("20.1.0.0/16", dev="eth1")
    net.add_route("20.1.2.3", via="192.168.1.0")
    assert lookup(net, "8.8.8.8") == "default via 10.0.0.254 dev eth0"
    assert lookup(net, "20.9.9.9") == "20.0.0.0/8 via 10.0.0.252 dev eth0"
    assert lookup(net, "20.1.9.9") == "20.1.0.0/16 dev eth1"
    assert lookup(net, "20.1.2.3") == "20.1.2.3/32 via 192.168.1.0 dev eth1"
    assert str(net.fib.main.routes()[0]) == "20.1.2.3/32 via 192.168.1.0 dev eth1"


def test_local_table_comes_before_longer_prefixes_of_main(net) -> None:
    net.add_route("127.5.0.0/16", via="10.0.0.254")
    assert lookup(net, "127.5.1.1") == "local 127.0.0.0/8 dev lo"


@pytest.mark.parametrize(
    ("arguments", "errno", "text"),
    [
        # ip route: "Error: Nexthop has invalid gateway."
        ({"to": "default", "via": "8.8.8.8"}, "ENETUNREACH", "nexthop 8.8.8.8 has invalid gateway"),
        ({"to": "default", "via": "10.0.0.1"}, "ENETUNREACH", "nexthop has invalid gateway"),
        ({"to": "default", "via": "10.0.0.9", "dev": "eth1"}, "ENETUNREACH", "nexthop has invalid gateway"),
        ({"to": "10.0.0.0/24", "dev": "eth0"}, "EEXIST", "10.0.0.0/24 dev eth0"),
        ({"to": "default", "dev": "eth9"}, "ENODEV", "host 'a' has no device 'eth9'"),
    ],
)
def test_refused_routes(net, arguments, errno, text) -> None:
    with pytest.raises(KernelError, match=text) as caught:
        net.add_route(**arguments)
    assert caught.value.errno_name == errno


def test_gateway_behind_a_gateway_is_refused(net) -> None:
    net.add_route("default", via="10.0.0.254")
    with pytest.raises(KernelError, match="nexthop has invalid gateway"):
        net.add_route("30.0.0.0/8", via="8.8.8.8")


def test_host_bits_in_a_prefix_are_refused(net) -> None:
    with pytest.raises(KernelError, match="invalid prefix for given prefix length"):
        Fib().add_route(Route(0x0A000001, 24, RouteType.UNICAST, net.devices["eth0"]))


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF_FFFF), st.integers(0, 32), st.integers(0, 3)), max_size=20),
    st.lists(st.integers(0, 0xFFFF_FFFF), min_size=1, max_size=20),
)
def test_lookup_equals_a_linear_search(new_lab, rows, addresses) -> None:
    dev = new_lab().net("a").loopback
    table, routes = FibTable(), []
    for address, prefixlen, metric in rows:
        route = Route(address & prefix_mask(prefixlen), prefixlen, RouteType.UNICAST, dev, metric=metric)
        try:
            table.add(route)
        except KernelError:
            assert any((r.prefix, r.prefixlen, r.metric) == (route.prefix, prefixlen, metric) for r in routes)
        else:
            routes.append(route)
    for address in [*addresses, *(route.prefix for route in routes)]:
        matches = [
            route for route in routes if address >> (32 - route.prefixlen) == route.prefix >> (32 - route.prefixlen)
        ]
        best = min(matches, key=lambda route: (-route.prefixlen, route.metric), default=None)
        assert table.lookup(address) == best


@pytest.fixture
def two_ways(lab):
    net = lab.net("a")
    net.add_nic("eth0", "10.0.0.1/24")
    net.add_nic("eth1", "10.0.1.1/24")
    return net


def test_rules_choose_tables(two_ways) -> None:
    net = two_ways
    net.add_route("default", via="10.0.0.254")
    net.add_route("default", via="10.0.1.254", table=100)
    net.add_rule(100, 100, source="10.9.0.0/16")
    net.add_rule(101, 100, mark=7)
    net.add_rule(102, 100, iif="eth1", to="8.8.0.0/16")
    daddr, saddr = parse_ip("8.8.8.8"), parse_ip("10.9.1.1")
    lookup = net.fib.lookup
    assert lookup(daddr).gateway == parse_ip("10.0.0.254")
    assert lookup(daddr, saddr).gateway == parse_ip("10.0.1.254")
    assert lookup(daddr, 0, 7).gateway == parse_ip("10.0.1.254")
    assert lookup(daddr, 0, 6).gateway == parse_ip("10.0.0.254")
    assert lookup(daddr, 0, 0, "eth1").gateway == parse_ip("10.0.1.254")
    assert lookup(parse_ip("9.9.9.9"), 0, 0, "eth1").gateway == parse_ip("10.0.0.254")
    # the table of local addresses comes first
    assert lookup(parse_ip("10.0.0.1"), saddr).type == RouteType.LOCAL


def test_a_rule_whose_table_has_no_route_is_passed(two_ways) -> None:
    two_ways.add_rule(1, 77)
    assert two_ways.fib.lookup(parse_ip("10.0.0.9")).dev.name == "eth0"
    assert two_ways.fib.lookup(parse_ip("9.9.9.9")) is None


def test_a_route_for_a_type_of_service(two_ways) -> None:
    two_ways.add_route("9.0.0.0/8", via="10.0.0.254")
    two_ways.add_route("9.0.0.0/8", via="10.0.1.254", tos=0x10)
    daddr = parse_ip("9.9.9.9")
    gateways = [two_ways.fib.lookup(daddr, 0, 0, None, tos).gateway & 0xFFFF for tos in (0, 0x10, 0x08)]
    assert gateways == [0x00FE, 0x01FE, 0x00FE]


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 9)])
def test_flows_are_shared_by_weight(two_ways, weights) -> None:
    net = two_ways
    net.add_multipath_route("9.0.0.0/8", [("10.0.0.254", weights[0]), ("10.0.1.254", weights[1])])
    counts = {"eth0": 0, "eth1": 0}
    for number in range(2000):
        counts[net.fib.lookup_output(parse_ip("9.0.0.0") + number, 0, None).dev.name] += 1
    # binomial: the standard deviation is at most 23
    assert abs(counts["eth0"] - 2000 * weights[0] / sum(weights)) < 90


def test_what_a_hash_is_made_of(lab) -> None:
    # net.ipv4.fib_multipath_hash_policy: 0 addresses, 1 the ports too
    for policy, ways in ((0, 1), (1, 2)):
        net = lab.net(f"h{policy}", sysctl={"net.ipv4.fib_multipath_hash_policy": policy})
        net.add_nic("eth0", "10.0.0.1/24")
        net.add_nic("eth1", "10.0.1.1/24")
        net.add_multipath_route("default", [("10.0.0.254", 1), ("10.0.1.254", 1)])
        daddr = parse_ip("9.9.9.9")
        flows = (Flow4(net, daddr, 0x0A000001, 17, 1000, port) for port in range(64))
        assert len({net.fib.lookup_output(daddr, 0x0A000001, flow).dev.name for flow in flows}) == ways


def test_bounds_of_weights_are_those_of_fib_rebalance() -> None:
    # upper bounds of weights 1 and 2: round(2**31 / 3) - 1, and 2**31 - 1
    paths = tuple(Route(0, 0, RouteType.UNICAST, None, gateway, weight=gateway) for gateway in (1, 2))
    route = Route(0, 0, RouteType.UNICAST, None, paths=paths)
    chosen = [route.select(hash_).gateway for hash_ in (0, 715827882, 715827883, (1 << 31) - 1)]
    assert chosen == [1, 1, 2, 2]


def test_routes_are_removed(two_ways) -> None:
    two_ways.add_route("9.0.0.0/8", via="10.0.0.254")
    two_ways.fib.main.remove(parse_ip("9.0.0.0"), 8)
    assert two_ways.fib.lookup(parse_ip("9.9.9.9")) is None
    with pytest.raises(KernelError) as caught:
        two_ways.fib.main.remove(parse_ip("9.0.0.0"), 8)
    assert caught.value.errno_name == "ESRCH"
