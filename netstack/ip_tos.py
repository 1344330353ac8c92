"""The priority that the type of service gives packets and sockets (net/ipv4/route.c, v6.18)."""

__all__ = ["rt_tos2priority"]

# ip_tos2prio[], by the four bits of TOS; TC_PRIO_* of include/uapi/linux/pkt_sched.h
IP_TOS2PRIO = (0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4)


def rt_tos2priority(tos: int) -> int:
    """Return the priority of a byte of TOS."""
    return IP_TOS2PRIO[tos >> 1 & 15]
