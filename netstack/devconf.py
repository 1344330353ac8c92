"""Settings of IPv4 that a host and each of its devices have: ``net.ipv4.conf.all.NAME`` and ``net.ipv4.conf.eth0.NAME``
(include/linux/inetdevice.h, net/ipv4/devinet.c, Documentation/networking/ip-sysctl.rst, v6.18).

What holds for a device is made of both; ``default`` is what devices have that are not named.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["DEVICE_SETTINGS", "DevConf", "is_device_setting"]


class DeviceSetting(NamedTuple):
    """Linux's values for ``all`` and ``default``, and what both make together."""

    all: int
    default: int
    together: Callable[[int, int], int]


def _both(a: int, b: int) -> int:
    return int(bool(a and b))


def _either(a: int, b: int) -> int:
    return int(bool(a or b))


# IN_DEV_ANDCONF, IN_DEV_ORCONF, IN_DEV_MAXCONF
DEVICE_SETTINGS = {
    "accept_source_route": DeviceSetting(0, 1, _both),
    "arp_ignore": DeviceSetting(0, 0, max),
    "rp_filter": DeviceSetting(0, 0, max),
    "send_redirects": DeviceSetting(1, 1, _either),
}
_PREFIX = "net.ipv4.conf."


def is_device_setting(name: str) -> bool:
    """Tell whether a sysctl is one of these."""
    device, _, setting = name.removeprefix(_PREFIX).rpartition(".")
    return name.startswith(_PREFIX) and bool(device) and setting in DEVICE_SETTINGS


class DevConf(NamedTuple):
    """What holds for one device."""

    accept_source_route: int
    arp_ignore: int
    rp_filter: int
    send_redirects: int

    @classmethod
    def of(cls, values: Mapping[str, int], device: str) -> "DevConf":
        """Return what the sysctls of a host say about a device."""

        def read(name: str) -> int:
            known = DEVICE_SETTINGS[name]
            default = values.get(f"{_PREFIX}default.{name}", known.default)
            own = values.get(f"{_PREFIX}{device}.{name}", default)
            return int(known.together(values.get(f"{_PREFIX}all.{name}", known.all), own))

        return cls(*map(read, cls._fields))
