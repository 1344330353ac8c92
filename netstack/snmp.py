"""The counters of /proc/net/snmp, /proc/net/netstat and /proc/net/snmp6, by the names ``nstat`` shows.

The rows are those of Linux 6.18 in its order (net/ipv4/proc.c, net/ipv6/proc.c); settings and gauges are left out.
Counters of what is not modelled stay 0.
"""

__all__ = ["SNMP_COUNTERS", "Snmp"]

_GROUPS = {
    "Ip": """
    InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers OutRequests OutDiscards
    OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs FragFails FragCreates OutTransmits
    """,
    "Icmp": """
    InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs InRedirects InEchos InEchoReps
    InTimestamps InTimestampReps InAddrMasks InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost
    OutDestUnreachs OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps OutTimestamps
    OutTimestampReps OutAddrMasks OutAddrMaskReps
    """,
    "Tcp": """
    ActiveOpens PassiveOpens AttemptFails EstabResets InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors
    """,
    "Udp": """
    InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
    """,
    "TcpExt": """
    SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned OutOfWindowIcmps
    LockDroppedIcmps ArpFilter TW TWRecycled TWKilled PAWSActive PAWSEstab BeyondWindow TSEcrRejected PAWSOldAck
    PAWSTimewait DelayedACKs DelayedACKLocked DelayedACKLost ListenOverflows ListenDrops TCPHPHits TCPPureAcks
    TCPHPAcks TCPRenoRecovery TCPSackRecovery TCPSACKReneging TCPSACKReorder TCPRenoReorder TCPTSReorder TCPFullUndo
    TCPPartialUndo TCPDSACKUndo TCPLossUndo TCPLostRetransmit TCPRenoFailures TCPSackFailures TCPLossFailures
    TCPFastRetrans TCPSlowStartRetrans TCPTimeouts TCPLossProbes TCPLossProbeRecovery TCPRenoRecoveryFail
    TCPSackRecoveryFail TCPRcvCollapsed TCPBacklogCoalesce TCPDSACKOldSent TCPDSACKOfoSent TCPDSACKRecv
    TCPDSACKOfoRecv TCPAbortOnData TCPAbortOnClose TCPAbortOnMemory TCPAbortOnTimeout TCPAbortOnLinger
    TCPAbortFailed TCPMemoryPressures TCPMemoryPressuresChrono TCPSACKDiscard TCPDSACKIgnoredOld
    TCPDSACKIgnoredNoUndo TCPSpuriousRTOs TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted TCPSackMerged
    TCPSackShiftFallback TCPBacklogDrop PFMemallocDrop TCPMinTTLDrop TCPDeferAcceptDrop IPReversePathFilter
    TCPTimeWaitOverflow TCPReqQFullDoCookies TCPReqQFullDrop TCPRetransFail TCPRcvCoalesce TCPOFOQueue TCPOFODrop
    TCPOFOMerge TCPChallengeACK TCPSYNChallenge TCPFastOpenActive TCPFastOpenActiveFail TCPFastOpenPassive
    TCPFastOpenPassiveFail TCPFastOpenListenOverflow TCPFastOpenCookieReqd TCPFastOpenBlackhole
    TCPSpuriousRtxHostQueues BusyPollRxPackets TCPAutoCorking TCPFromZeroWindowAdv TCPToZeroWindowAdv
    TCPWantZeroWindowAdv TCPSynRetrans TCPOrigDataSent TCPHystartTrainDetect TCPHystartTrainCwnd
    TCPHystartDelayDetect TCPHystartDelayCwnd TCPACKSkippedSynRecv TCPACKSkippedPAWS TCPACKSkippedSeq
    TCPACKSkippedFinWait2 TCPACKSkippedTimeWait TCPACKSkippedChallenge TCPWinProbe TCPKeepAlive TCPMTUPFail
    TCPMTUPSuccess TCPDelivered TCPDeliveredCE TCPAckCompressed TCPZeroWindowDrop TCPRcvQDrop TCPWqueueTooBig
    TCPFastOpenPassiveAltKey TcpTimeoutRehash TcpDuplicateDataRehash TCPDSACKRecvSegs TCPDSACKIgnoredDubious
    TCPMigrateReqSuccess TCPMigrateReqFailure TCPPLBRehash TCPAORequired TCPAOBad TCPAOKeyNotFound TCPAOGood
    TCPAODroppedIcmps
    """,
    "IpExt": """
    InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets OutOctets InMcastOctets
    OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts
    ReasmOverlaps
    """,
    "Ip6": """
    InReceives InHdrErrors InTooBigErrors InNoRoutes InAddrErrors InUnknownProtos InTruncatedPkts InDiscards
    InDelivers OutForwDatagrams OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails
    FragOKs FragFails FragCreates InMcastPkts OutMcastPkts InOctets OutOctets InMcastOctets OutMcastOctets
    InBcastOctets OutBcastOctets InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts OutTransmits
    """,
    "Icmp6": """
    InMsgs InErrors OutMsgs OutErrors InCsumErrors OutRateLimitHost InDestUnreachs InPktTooBigs InTimeExcds
    InParmProblems InEchos InEchoReplies InGroupMembQueries InGroupMembResponses InGroupMembReductions
    InRouterSolicits InRouterAdvertisements InNeighborSolicits InNeighborAdvertisements InRedirects InMLDv2Reports
    OutDestUnreachs OutPktTooBigs OutTimeExcds OutParmProblems OutEchos OutEchoReplies OutGroupMembQueries
    OutGroupMembResponses OutGroupMembReductions OutRouterSolicits OutRouterAdvertisements OutNeighborSolicits
    OutNeighborAdvertisements OutRedirects OutMLDv2Reports
    """,
    "Udp6": """
    InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
    """,
}
SNMP_COUNTERS = tuple(group + name for group, names in _GROUPS.items() for name in names.split())
# the two bits of ECN: RFC 3168
_ECN = ("InNoECTPkts", "InECT1Pkts", "InECT0Pkts", "InCEPkts")


class Snmp:
    """The counters of one network namespace; reading an unknown name is a KeyError."""

    def __init__(self) -> None:
        self._values = dict.fromkeys(SNMP_COUNTERS, 0)

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def inc(self, name: str, count: int = 1) -> None:
        """Add one, or more."""
        self._values[name] += count

    def receive_ip(self, size: int) -> None:
        """Count an IPv4 packet of ``size`` bytes that came in."""
        values = self._values
        values["IpInReceives"] += 1
        values["IpExtInOctets"] += size

    def send_ip(self, size: int, is_broadcast: bool) -> None:
        """Count an IPv4 packet that goes out."""
        values = self._values
        values["IpOutTransmits"] += 1
        values["IpExtOutOctets"] += size
        if is_broadcast:
            values["IpExtOutBcastPkts"] += 1
            values["IpExtOutBcastOctets"] += size

    def count_ecn(self, group: str, tos: int, segments: int = 1) -> None:
        """Count a packet by its ECN bits; ``group`` is IpExt or Ip6."""
        self._values[group + _ECN[tos & 3]] += segments

    def as_dict(self) -> dict[str, int]:
        """Return every counter, in the table's order."""
        return dict(self._values)

    def group(self, group: str) -> dict[str, int]:
        """Return the counters of one group by their names in it."""
        return {name: self._values[group + name] for name in _GROUPS[group].split()}

    def proc_text(self, *groups: str) -> str:
        """Return lines of names and values, as /proc/net/snmp has them."""
        lines = []
        for group in groups:
            names = _GROUPS[group].split()
            lines.append(f"{group}: {' '.join(names)}")
            lines.append(f"{group}: {' '.join(str(self._values[group + name]) for name in names)}")
        return "".join(line + "\n" for line in lines)
