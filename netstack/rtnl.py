"""Making devices as ``ip link add`` does (net/core/rtnetlink.c and the drivers' ``newlink``, v6.18)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from netstack.veth import Veth

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["add_veth"]

DEFAULT_MTU = 1500  # ETH_DATA_LEN


def add_veth(
    net: "Net",
    name: str,
    peer_net: "Net",
    peer_name: str,
    *,
    addresses: str | Iterable[str] = (),
    peer_addresses: str | Iterable[str] = (),
    mac: str | None = None,
    peer_mac: str | None = None,
    mtu: int = DEFAULT_MTU,
) -> tuple[Veth, Veth]:
    """Return a new pair of devices, the second perhaps in another namespace of the same host."""
    net.check_new(name, mtu)
    peer_net.check_new(peer_name, mtu)
    # the peer comes first
    ifindex = peer_net.new_ifindex()
    peer = Veth(peer_net, peer_name, ifindex, peer_net.new_mac(peer_mac, ifindex), mtu)
    peer_net.register(peer)
    ifindex = net.new_ifindex()
    dev = Veth(net, name, ifindex, net.new_mac(mac, ifindex), mtu)
    net.register(dev)
    dev.peer, peer.peer = peer, dev
    for one, texts in ((dev, addresses), (peer, peer_addresses)):
        for text in (texts,) if isinstance(texts, str) else texts:
            one.net.add_address(one, text)
    return dev, peer
