"""The network sysctls that the stack obeys, with Linux's defaults (Documentation/networking/ip-sysctl.rst, v6.18).

A name that is not here is not modelled, and setting it says so: no switch is silently without effect.
"""

from collections.abc import Mapping

from ebpfsim.errors import InputError, NotModelled

__all__ = ["SYSCTLS", "read_sysctls"]

# fmt: off
SYSCTLS: dict[str, int] = {
    "net.core.netdev_max_backlog":             1000,
    "net.ipv4.icmp_echo_ignore_all":           0,
    "net.ipv4.icmp_echo_ignore_broadcasts":    1,
    "net.ipv4.ip_default_ttl":                 64,
    "net.ipv4.ip_forward":                     0,
    "net.ipv4.neigh.default.mcast_solicit":    3,
    "net.ipv4.neigh.default.retrans_time_ms":  1000,
    "net.ipv4.neigh.default.unres_qlen_bytes": 212992,   # SK_WMEM_DEFAULT
}
# fmt: on


def read_sysctls(settings: Mapping[str, int | str]) -> dict[str, int]:
    """Return every network sysctl with its value; settings of other subsystems are left to them."""
    values = dict(SYSCTLS)
    for name, value in settings.items():
        if not name.startswith("net."):
            continue
        if name not in SYSCTLS:
            raise NotModelled(f"sysctl {name}", "Documentation/networking/ip-sysctl.rst")
        try:
            values[name] = int(value)
        except ValueError:
            raise InputError("", f"sysctl {name}: value {value!r} is not an integer") from None
    return values
