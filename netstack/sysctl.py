"""The network sysctls that the stack obeys, with Linux's defaults (Documentation/networking/ip-sysctl.rst, v6.18).

A name that is not here is not modelled, and setting it says so: no switch is silently without effect.
"""

from collections.abc import Mapping

from ebpfsim.errors import InputError, NotModelled
from netstack.devconf import is_device_setting
from netstack.tcp_sysctl import TCP_SYSCTLS, TCP_TEXTS

__all__ = ["SYSCTLS", "read_sysctls"]

# fmt: off
SYSCTLS: dict[str, int] = {
    "net.core.netdev_max_backlog":             1000,
    "net.ipv4.icmp_echo_ignore_all":           0,
    "net.ipv4.icmp_echo_ignore_broadcasts":    1,
    "net.ipv4.fib_multipath_hash_policy":      0,
    "net.ipv4.icmp_msgs_burst":                50,
    "net.ipv4.icmp_msgs_per_sec":              1000,
    "net.ipv4.icmp_ratelimit":                 1000,
    "net.ipv4.icmp_ratemask":                  6168,
    "net.ipv4.ip_default_ttl":                 64,
    "net.ipv4.ip_forward":                     0,
    "net.ipv4.ipfrag_high_thresh":             4194304,
    "net.ipv4.ipfrag_time":                    30,
    "net.ipv4.neigh.default.base_reachable_time_ms": 30000,
    "net.ipv4.neigh.default.delay_first_probe_time": 5,
    "net.ipv4.neigh.default.mcast_solicit":    3,
    "net.ipv4.neigh.default.retrans_time_ms":  1000,
    "net.ipv4.neigh.default.ucast_solicit":    3,
    "net.ipv4.neigh.default.unres_qlen_bytes": 212992,   # SK_WMEM_DEFAULT
    "net.ipv4.route.min_pmtu":                 552,
    "net.ipv4.route.mtu_expires":              600,
    "net.ipv6.conf.all.accept_dad":            0,        # Linux: 1
    "net.ipv6.conf.all.accept_ra":             1,
    "net.ipv6.conf.all.dad_transmits":         1,
    "net.ipv6.conf.all.router_solicitations":  0,        # Linux: -1, without end
    "net.ipv6.conf.all.forwarding":            0,
    "net.ipv6.conf.all.hop_limit":             64,
    "net.ipv6.fib_multipath_hash_policy":      0,
    "net.ipv6.icmp.ratelimit":                 100,
    "net.ipv6.ip6frag_high_thresh":            4194304,
    "net.ipv6.ip6frag_time":                   60,
    "net.ipv6.route.mtu_expires":              600,
    "net.ipv6.neigh.default.base_reachable_time_ms": 30000,
    "net.ipv6.neigh.default.delay_first_probe_time": 5,
    "net.ipv6.neigh.default.mcast_solicit":    3,
    "net.ipv6.neigh.default.retrans_time_ms":  1000,
    "net.ipv6.neigh.default.ucast_solicit":    3,
    "net.ipv6.neigh.default.unres_qlen_bytes": 212992,
} | TCP_SYSCTLS
# fmt: on


def read_sysctls(settings: Mapping[str, int | str]) -> dict[str, int]:
    """Return every network sysctl with its value; settings of other subsystems are left to them."""
    values = dict(SYSCTLS)
    for name, value in settings.items():
        if not name.startswith("net.") or name in TCP_TEXTS:
            continue
        if name not in SYSCTLS and not is_device_setting(name):
            raise NotModelled(f"sysctl {name}", "Documentation/networking/ip-sysctl.rst")
        try:
            values[name] = int(value)
        except ValueError:
            raise InputError("", f"sysctl {name}: value {value!r} is not an integer") from None
    return values
