"""The counters of /proc/net/snmp and /proc/net/netstat that the stack keeps, by the names ``nstat`` shows.

The rows are those of net/ipv4/proc.c, v6.18. A counter that is not here is not kept.
"""

__all__ = ["SNMP_COUNTERS", "Snmp"]

# fmt: off
SNMP_COUNTERS = (
    "IpInReceives", "IpInHdrErrors", "IpInAddrErrors", "IpForwDatagrams", "IpInUnknownProtos", "IpInDiscards",
    "IpInDelivers", "IpOutRequests", "IpOutDiscards", "IpOutNoRoutes", "IpFragFails", "IpOutTransmits",
    "IpExtInNoRoutes", "IpExtInTruncatedPkts", "IpExtInCsumErrors",
    "IcmpInMsgs", "IcmpInErrors", "IcmpInCsumErrors", "IcmpInDestUnreachs", "IcmpInTimeExcds", "IcmpInParmProbs",
    "IcmpInSrcQuenchs", "IcmpInEchos", "IcmpInEchoReps",
    "IcmpOutMsgs", "IcmpOutDestUnreachs", "IcmpOutTimeExcds", "IcmpOutEchos", "IcmpOutEchoReps",
    "UdpInDatagrams", "UdpNoPorts", "UdpInErrors", "UdpOutDatagrams", "UdpInCsumErrors", "UdpIgnoredMulti",
    "UdpSndbufErrors",
)
# fmt: on


class Snmp:
    """The counters of one network namespace; reading an unknown name is a KeyError."""

    def __init__(self) -> None:
        self._values = dict.fromkeys(SNMP_COUNTERS, 0)

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def inc(self, name: str) -> None:
        """Add one."""
        self._values[name] += 1

    def as_dict(self) -> dict[str, int]:
        """Return every counter, in the table's order."""
        return dict(self._values)
