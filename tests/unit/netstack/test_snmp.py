import pytest

from netstack.snmp import SNMP_COUNTERS, Snmp


def test_counters_count_and_unknown_ones_do_not_exist() -> None:
    snmp = Snmp()
    snmp.inc("IpInReceives")
    snmp.inc("IpInReceives")
    assert snmp["IpInReceives"] == 2
    assert snmp.as_dict() == {**dict.fromkeys(SNMP_COUNTERS, 0), "IpInReceives": 2}
    with pytest.raises(KeyError):
        snmp["IpInReceive"]
    with pytest.raises(KeyError):
        snmp.inc("TcpInSegments")


def test_names_are_those_of_nstat() -> None:
    # groups of net/ipv4/proc.c and net/ipv6/proc.c
    assert all(name.startswith(("Ip", "Icmp", "Udp", "Tcp")) for name in SNMP_COUNTERS)
    assert len(set(SNMP_COUNTERS)) == len(SNMP_COUNTERS)
