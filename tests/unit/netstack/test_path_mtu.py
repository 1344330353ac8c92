"""Path MTUs: what is believed (RFC 1191, RFC 8201; net.ipv4.route.min_pmtu), and for how long."""

import pytest

from netstack.fib import Route, RouteType
from netstack.path_mtu import PathMtu


@pytest.fixture
def net(lab):
    net = lab.net("a")
    net.add_nic("eth0", "10.0.0.1/24")
    return net


def route(net) -> Route:
    return Route(0, 0, RouteType.UNICAST, net.devices["eth0"])


def test_learned_and_forgotten(net, lab) -> None:
    path, way = PathMtu(net, 4), route(net)
    assert path.of(way, 9) == 1500
    assert path.update(way, 9, 1300)
    assert not path.update(way, 9, 1400)
    assert (path.of(way, 9), path.of(way, 8), path.is_locked(9)) == (1300, 1500, False)
    net.clock.call_at(600_000_000_000, lambda: None)
    lab.run()
    assert path.of(way, 9) == 1500


def test_what_is_too_small(net) -> None:
    path, path6, way = PathMtu(net, 4), PathMtu(net, 6), route(net)
    # 552 at least, and no Don't Fragment any more
    assert path.update(way, 9, 100)
    assert (path.of(way, 9), path.is_locked(9)) == (552, True)
    assert path6.update(way, 9, 100)
    assert path6.of(way, 9) == 1280
    assert not path6.update(way, 9, 2000)
