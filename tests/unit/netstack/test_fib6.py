"""IPv6 routes: prefixes, metrics, rules, next hops (route(8), ip-rule(8); fib6_select_path)."""

from collections import Counter
from ipaddress import IPv6Address

import pytest

from ebpfsim.errors import KernelError
from netstack.fib import Route, RouteType
from netstack.fib6 import Fib6, Fib6Table, Rule6, mask6


def number(text: str) -> int:
    return int(IPv6Address(text))


@pytest.fixture
def net(lab):
    net = lab.net("a")
    net.add_nic("eth0", "2001:db8:1::1/64")
    net.add_nic("eth1", "2001:db8:2::1/64")
    return net


def found(net, address: str, **how: object) -> str:
    route = net.ipv6.fib.lookup(number(address), **how)
    if route is None:
        return "none"
    return f"{route.type.name.lower()} {route.dev.name} {IPv6Address(route.gateway) if route.gateway else 'link'}"


def test_the_longest_prefix_then_the_lowest_metric(net) -> None:
    net.add_route("default", via="2001:db8:1::9")
    net.add_route("2001:db8:5::/48", via="2001:db8:2::9", metric=20)
    net.add_route("2001:db8:5::/48", via="2001:db8:1::9", metric=10)
    net.add_route("2001:db8:5:1::/64", type="unreachable")
    assert found(net, "2001:db8:99::1") == "unicast eth0 2001:db8:1::9"
    assert found(net, "2001:db8:5::1") == "unicast eth0 2001:db8:1::9"
    assert found(net, "2001:db8:5::1", dev=net.devices["eth1"]) == "unicast eth1 2001:db8:2::9"
    assert found(net, "2001:db8:5:1::1") == "unreachable lo link"
    assert found(net, "2001:db8:2::1") == "local eth1 link"
    assert found(net, "2001:db8:2::2") == "unicast eth1 link"
    net.ipv6.fib.main.remove(number("2001:db8:5::"), 48, 10)
    assert found(net, "2001:db8:5::1") == "unicast eth1 2001:db8:2::9"
    with pytest.raises(KernelError, match="ESRCH"):
        net.ipv6.fib.main.remove(number("2001:db8:77::"), 48)


def test_rules_choose_tables(net) -> None:
    net.add_route("default", via="2001:db8:1::9")
    net.add_route("default", via="2001:db8:2::9", table=100)
    net.add_rule(1000, 100, source="2001:db8:2::/64")
    net.add_rule(1001, 100, mark=7, family=6)
    net.add_rule(1002, 100, iif="eth1", family=6)
    assert found(net, "2001:db8:99::1") == "unicast eth0 2001:db8:1::9"
    for how in ({"saddr": number("2001:db8:2::5")}, {"mark": 7}, {"iif": "eth1"}):
        assert found(net, "2001:db8:99::1", **how) == "unicast eth1 2001:db8:2::9"
    # what is in no table of a rule is looked for by the next one
    net.add_rule(999, 55, family=6)
    assert found(net, "2001:db8:99::1") == "unicast eth0 2001:db8:1::9"
    assert not Rule6(1, 2, dest=number("2001:db8::"), dest_len=32).fits(number("2002::"), 0, 0, None)


def test_several_next_hops_by_their_weights(net) -> None:
    net.add_multipath_route("2001:db8:5::/48", [("2001:db8:1::9", 3), ("2001:db8:2::9", 1)])
    fib = net.ipv6.fib
    route = fib.lookup(number("2001:db8:5::1"))
    taken = Counter(
        fib.select(route, number("2001:db8:5::1"), number("2001:db8:1::1") + each, label=each).dev.name
        for each in range(2000)
    )
    assert 0.7 < taken["eth0"] / 2000 < 0.8
    one = number("2001:db8:5::1"), 5
    # ports do not count but for policy 1
    assert len({fib.select(route, *one, (port, 53)).dev.name for port in range(50)}) == 1
    fib.hash_policy = 1
    assert len({fib.select(route, *one, (port, 53)).dev.name for port in range(50)}) == 2


def test_a_route_that_is_there_and_next_hops_that_are_added(net) -> None:
    table, eth0, eth1 = Fib6Table(), net.devices["eth0"], net.devices["eth1"]
    table.add(Route(0, 0, RouteType.UNICAST, eth0, 5, metric=1024))
    with pytest.raises(KernelError, match="EEXIST"):
        table.add(Route(0, 0, RouteType.UNICAST, eth1, 6, metric=1024))
    table.add(Route(0, 0, RouteType.UNICAST, eth1, 6, metric=1024), append=True)
    (route,) = table.routes()
    assert [path.gateway for path in route.paths] == [5, 6]
    table.remove_device(eth0)
    assert table.routes() == []
    fib = Fib6()
    assert fib.lookup(1) is None
    assert mask6(1) == 1 << 127


def test_routes_go_with_their_device(net) -> None:
    net.add_route("2001:db8:5::/48", via="2001:db8:2::9")
    net.unregister(net.devices["eth1"])
    assert found(net, "2001:db8:5::1") == found(net, "2001:db8:2::1") == "none"
