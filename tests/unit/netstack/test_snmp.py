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
        snmp.inc("TcpInSegs")


def test_names_are_those_of_nstat() -> None:
    # groups of net/ipv4/proc.c: snmp4_ipstats_list, snmp4_ipextstats_list, icmp, snmp4_udp_list
    assert all(name.startswith(("Ip", "Icmp", "Udp")) for name in SNMP_COUNTERS)
    assert len(set(SNMP_COUNTERS)) == len(SNMP_COUNTERS)
