"""The functions of TCP that probes can be attached to, from all of its modules."""

from typing import Any

__all__ = ["tcp_modules"]


def tcp_modules() -> tuple[Any, ...]:
    """Return the modules; they are imported when a network is made."""
    from netstack import (
        inet_connection_sock,
        tcp,
        tcp_ack,
        tcp_ca,
        tcp_data,
        tcp_input,
        tcp_ip,
        tcp_ipv4,
        tcp_ipv6,
        tcp_minisocks,
        tcp_output,
        tcp_rate,
        tcp_rcv_ack,
        tcp_retransmit,
        tcp_rtt,
        tcp_send,
        tcp_timer,
        tcp_validate,
    )  # fmt: skip

    return (
        inet_connection_sock, tcp, tcp_ack, tcp_ca, tcp_data, tcp_input, tcp_ip, tcp_ipv4, tcp_ipv6, tcp_minisocks,
        tcp_output, tcp_rate, tcp_rcv_ack, tcp_retransmit, tcp_rtt, tcp_send, tcp_timer, tcp_validate,
    )  # fmt: skip
