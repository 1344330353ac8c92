"""What ``ip link add`` refuses, and the numbers that it gives."""

import pytest

from ebpfsim.errors import InputError
from netstack.rtnl import add_veth


def test_the_peer_is_registered_first(lab) -> None:
    net = lab.net("h")
    a, b = add_veth(net, "veth0", net, "veth1", addresses=["10.0.0.1/24"], peer_addresses="10.0.0.2/24")
    assert (a.ifindex, b.ifindex) == (3, 2)
    assert [str(each.address) for each in a.addresses] == [str(0x0A000001)]


@pytest.mark.parametrize("names", [("lo", "veth1"), ("veth0", "lo"), ("a" * 16, "veth1")])
def test_names_that_cannot_be(lab, names) -> None:
    net = lab.net("h")
    with pytest.raises(InputError):
        add_veth(net, names[0], net, names[1])
    assert list(net.devices) == ["lo"]
