"""The table of the stack's functions: what probes can be attached to, from all of its modules."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

__all__ = ["stack_functions"]


@cache
def stack_functions() -> Mapping[str, Callable[..., Any]]:
    """Return the functions of the kernel that packets go through, by their names."""
    from netstack import (
        arp,
        device,
        exthdrs6,
        flow,
        icmp,
        icmpv6,
        ip6_fragment,
        ip6_output,
        ip_fragment,
        ip_output,
        ipv4,
        ipv6,
        loopback,
        napi,
        ndisc,
        neigh,
        packet_sock,
        raw,
        rx,
        skb_free,
        udp,
        udp6,
        unix_sock,
        veth,
    )
    from netstack.marks import FUNCTION_TABLE
    from netstack.tcp_functions import tcp_modules

    found: dict[str, Callable[..., Any]] = dict(FUNCTION_TABLE)
    for module in (
        arp,
        device,
        exthdrs6,
        flow,
        icmp,
        icmpv6,
        ip6_fragment,
        ip6_output,
        ip_fragment,
        ip_output,
        ipv4,
        ipv6,
        loopback,
        napi,
        ndisc,
        neigh,
        packet_sock,
        raw,
        rx,
        skb_free,
        udp,
        udp6,
        unix_sock,
        veth,
        *tcp_modules(),
    ):
        for name, function in vars(module).items():
            if getattr(function, "takes_objects", False) and function.__module__ == module.__name__:
                found[function.__dict__.get("kernel_name", name)] = function
    return found
