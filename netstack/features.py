"""What devices say that they do for packets: the active features, by the names that ``ethtool -k`` has (v6.18).

Rows are what Linux 6.18 shows of new devices. They tell; what is modelled of them is segmentation and receive offload
of cards (``netstack.gso``, ``netstack.gro``), VLAN tags beside the data, and checksums, which are complete everywhere.
"""

from typing import TYPE_CHECKING

from ebpfsim.errors import NotModelled
from netstack.bridge import Bridge
from netstack.loopback import Loopback
from netstack.nic import Nic
from netstack.stacked import Ifb
from netstack.veth import Veth

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = ["active_features"]

_SG = ("tx-scatter-gather", "tx-scatter-gather-fraglist", "highdma", "tx-checksum-ip-generic")
_TSO = (
    "tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation",
    "tx-tcp-accecn-segmentation",
)  # fmt: skip
_UDP = ("tx-sctp-segmentation", "tx-udp-segmentation", "tx-gso-list")
_TUNNELS = (
    "tx-gre-segmentation", "tx-gre-csum-segmentation", "tx-ipxip4-segmentation", "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation",
)  # fmt: skip
_SOFTWARE = (*_SG, *_TSO, *_UDP, "tx-generic-segmentation")
_VLAN_TX, _VLAN_RX = ("tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"), ("rx-vlan-hw-parse", "rx-vlan-stag-hw-parse")
ACTIVE: dict[type, tuple[str, ...]] = {
    Loopback: (*_SOFTWARE, "vlan-challenged", "rx-gro", "tx-checksum-sctp", "rx-checksum", "loopback"),
    Veth: (*_SOFTWARE, *_TUNNELS, *_VLAN_TX, *_VLAN_RX, "tx-checksum-sctp", "rx-checksum"),
    Ifb: (*_SOFTWARE, *_TUNNELS, *_VLAN_TX, "rx-gro"),
    Bridge: (
        *_SOFTWARE, *_TUNNELS, *_VLAN_TX, "rx-gro", "tx-gso-robust", "tx-fcoe-segmentation", "tx-gso-partial",
        "tx-tunnel-remcsum-segmentation", "tx-esp-segmentation",
    ),
}  # fmt: skip


def active_features(dev: "NetDevice") -> tuple[str, ...]:
    """Return the names of the features that are on, in alphabetical order."""
    if isinstance(dev, Nic):
        found: tuple[str, ...] = (
            "tx-scatter-gather", "highdma", "tx-checksum-ip-generic", "tx-generic-segmentation", "rx-checksum",
            "rx-hashing",
        )  # fmt: skip
        found += _TSO if dev.tso else ()
        found += ("rx-gro",) if dev.gro else ()
    elif type(dev) in ACTIVE:
        found = ACTIVE[type(dev)]
        if isinstance(dev, Veth):
            found = _of_veth(dev, found)
    else:
        raise NotModelled(f"features of {dev!r}", "ethtool -k")
    return tuple(sorted(found))


def _of_veth(dev: Veth, found: tuple[str, ...]) -> tuple[str, ...]:
    # veth_xdp_set(), veth_fix_features(): programs turn GRO on here, and segments off at the other end
    if dev.peer is not None and dev.peer.xdp.native is not None:
        found = tuple(name for name in found if name not in (*_TSO, *_UDP))
    return (*found, "rx-gro") if dev.napi else found
