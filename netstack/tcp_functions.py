"""The functions of TCP that probes can be attached to, from all of its modules."""

from typing import Any

__all__ = ["tcp_modules"]


def tcp_modules() -> tuple[Any, ...]:
    """Return the modules; they are imported when a network is made."""
    from netstack import (
        inet_connection_sock,
        tcp,
        tcp_ack,
        tcp_input,
        tcp_ip,
        tcp_ipv4,
        tcp_minisocks,
        tcp_output,
        tcp_timer,
    )  # fmt: skip

    return (inet_connection_sock, tcp, tcp_ack, tcp_input, tcp_ip, tcp_ipv4, tcp_minisocks, tcp_output, tcp_timer)
