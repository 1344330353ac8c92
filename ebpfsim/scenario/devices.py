"""Devices of a host that are made of software: ``devices: {veth0: {type: veth, peer: blue/veth1}}``.

Which keys a type of device has stands in ``DEVICE_TYPES``; each type is made by the method of ``Host`` of that name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ebpfsim.scenario.document import Key
from ebpfsim.topology import SWITCH_BRIDGE

if TYPE_CHECKING:
    from ebpfsim.scenario.schema import DeviceBlock, HostBlock
    from ebpfsim.simulation import Host

__all__ = ["DEVICE_TYPES", "DeviceType", "add_device", "check_devices", "device_names"]

Path = tuple[Key, ...]
_COMMON = ("address", "mac", "mtu")
_PAIR = (*_COMMON, "peer_address", "peer_mac")
_TUNNEL = (*_COMMON, "remote", "external", "ttl", "tos", "df")


_L3 = ("address", "mtu", "remote", "local", "ttl", "tos")


@dataclass(frozen=True)
class DeviceType:
    """A type: the keys that it needs, those that it may have, and keys that ``Host`` has another word for."""

    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = _COMMON
    words: Mapping[str, str] | None = None


DEVICE_TYPES: dict[str, DeviceType] = {
    "bond": DeviceType(("ports",), (*_COMMON, "mode"), {"ports": "slaves"}),
    "bridge": DeviceType((), (*_COMMON, "ports")),
    "dummy": DeviceType(),
    "geneve": DeviceType((), (*_TUNNEL, "id", "port", "csum"), {"id": "vni", "port": "dstport", "csum": "udpcsum"}),
    "gretap": DeviceType((), (*_TUNNEL, "local", "key")),
    "ifb": DeviceType((), ("mac", "mtu")),
    "gre": DeviceType((), (*_L3, "external", "key", "df", "csum")),
    "ip6tnl": DeviceType(("remote",), tuple(key for key in _L3 if key != "df")),
    "ipip": DeviceType((), (*_L3, "external", "df")),
    "sit": DeviceType((), (*_L3, "df")),
    "tun": DeviceType((), (*_COMMON, "mode")),
    "macvlan": DeviceType(("link",), (*_COMMON, "mode")),
    "netkit": DeviceType(("peer",), (*_PAIR, "mode", "policy", "peer_policy", "scrub", "peer_scrub")),
    "veth": DeviceType(("peer",), _PAIR),
    "vlan": DeviceType(("link", "id"), ("address", "mtu", "protocol"), {"id": "vlan_id"}),
    "vxlan": DeviceType(
        (), (*_TUNNEL, "local", "id", "port", "csum", "learning"), {"id": "vni", "port": "dstport", "csum": "udpcsum"}
    ),
}


class Check(Protocol):
    """What gathers the errors of a scenario."""

    def wrong(self, path: Path, problem: str, hint: str = "", *, key: bool = False) -> None:
        """Tell that something is wrong at a place."""

    def unknown(self, path: Path, what: str, name: object, known: Iterable[str], *, key: bool = False) -> None:
        """Tell that a name leads nowhere."""


def device_names(host: "HostBlock") -> list[str]:
    """Return the names of all devices of a host: interfaces, those of ``devices``, their peers, and ``lo``."""
    peers = (device.peer for device in host.devices.values() if device.peer is not None)
    own = (*host.interfaces, *_bridges(host), *host.devices, *peers, "lo")
    return [*own, *(f"{name}/lo" for name in host.namespaces)]


def _bridges(host: "HostBlock") -> tuple[str, ...]:
    return (SWITCH_BRIDGE,) if host.role == "switch" else ()


def check_devices(check: Check, path: Path, name: str, host: "HostBlock") -> None:
    """Tell of names that are taken or lead nowhere; a device that another one needs comes before it."""
    known = [*host.interfaces, "lo", *_bridges(host)]
    for device, block in host.devices.items():
        here = (*path, "devices", device)
        for place, text in ((here, device), ((*here, "peer"), block.peer)):
            if text is None:
                continue
            netns, slash, _ = text.rpartition("/")
            if slash and netns not in host.namespaces:
                check.unknown(place, f"namespace of '{name}':", netns, host.namespaces, key=place is here)
            elif text in known:
                check.wrong(place, f"host '{name}' has a device '{text}' already", key=place is here)
            known.append(text)
        before = known[: -1 if block.peer is None else -2]
        for key, texts in (("link", [block.link] if block.link else []), ("ports", block.ports or [])):
            for index, text in enumerate(texts):
                if text not in before:
                    place = (*here, key) if key == "link" else (*here, key, index)
                    check.unknown(place, f"device of '{name}' above this one:", text, before)


def add_device(host: "Host", name: str, device: "DeviceBlock") -> None:
    """Make a device as its block says."""
    kind = DEVICE_TYPES[device.type]
    options: dict[str, Any] = {}
    for key in (*kind.needs, *kind.may):
        value = getattr(device, key)
        if key in device.model_fields_set:
            options[(kind.words or {}).get(key, key)] = _plain(value)
    getattr(host, device.type)(name, **options)


def _plain(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, list) else value
