import pytest

from ebpfsim.errors import InputError, NotModelled
from netstack.sysctl import SYSCTLS, read_sysctls
from netstack.tcp_sysctl import TCP_SYSCTLS


def test_settings_replace_defaults() -> None:
    values = read_sysctls({"net.ipv4.ip_forward": "1", "net.ipv4.ip_default_ttl": 33, "kernel.bpf_stats_enabled": 1})
    assert values == {**SYSCTLS, "net.ipv4.ip_forward": 1, "net.ipv4.ip_default_ttl": 33}
    assert read_sysctls({}) == SYSCTLS


def test_unknown_names_and_values() -> None:
    with pytest.raises(NotModelled, match=r"sysctl net\.ipv4\.tcp_fastopen"):
        read_sysctls({"net.ipv4.tcp_fastopen": 1})
    with pytest.raises(InputError, match=r"sysctl net\.ipv4\.ip_forward: value 'yes' is not an integer"):
        read_sysctls({"net.ipv4.ip_forward": "yes"})


@pytest.mark.parametrize("name", sorted({*SYSCTLS} - {*TCP_SYSCTLS}))
def test_every_sysctl_has_a_default_of_linux(name) -> None:
    # Documentation/networking/ip-sysctl.rst and Documentation/admin-guide/sysctl/net.rst, v6.18
    documented = {
        "net.core.netdev_max_backlog": 1000,
        "net.ipv4.icmp_echo_ignore_all": 0,
        "net.ipv4.icmp_echo_ignore_broadcasts": 1,
        "net.ipv4.fib_multipath_hash_policy": 0,
        # /proc/sys of Linux 6.18
        "net.ipv4.icmp_msgs_burst": 50,
        "net.ipv4.icmp_msgs_per_sec": 1000,
        "net.ipv4.icmp_ratelimit": 1000,
        "net.ipv4.icmp_ratemask": 6168,
        "net.ipv4.ipfrag_high_thresh": 4194304,
        "net.ipv4.ipfrag_time": 30,
        "net.ipv4.neigh.default.base_reachable_time_ms": 30000,
        "net.ipv4.neigh.default.delay_first_probe_time": 5,
        "net.ipv4.neigh.default.ucast_solicit": 3,
        "net.ipv4.route.min_pmtu": 552,
        "net.ipv4.route.mtu_expires": 600,
        # of Linux 1 and -1: nothing is said here that was not asked for
        "net.ipv6.conf.all.accept_dad": 0,
        "net.ipv6.conf.all.router_solicitations": 0,
        "net.ipv6.conf.all.accept_ra": 1,
        "net.ipv6.conf.all.dad_transmits": 1,
        "net.ipv6.fib_multipath_hash_policy": 0,
        "net.ipv6.ip6frag_high_thresh": 4194304,
        "net.ipv6.ip6frag_time": 60,
        "net.ipv6.route.mtu_expires": 600,
        "net.ipv6.conf.all.forwarding": 0,
        "net.ipv6.conf.all.hop_limit": 64,
        "net.ipv6.icmp.ratelimit": 100,
        "net.ipv6.neigh.default.base_reachable_time_ms": 30000,
        "net.ipv6.neigh.default.delay_first_probe_time": 5,
        "net.ipv6.neigh.default.mcast_solicit": 3,
        "net.ipv6.neigh.default.retrans_time_ms": 1000,
        "net.ipv6.neigh.default.ucast_solicit": 3,
        "net.ipv6.neigh.default.unres_qlen_bytes": 212992,
        "net.ipv4.ip_default_ttl": 64,
        "net.ipv4.ip_forward": 0,
        "net.ipv4.neigh.default.mcast_solicit": 3,
        "net.ipv4.neigh.default.retrans_time_ms": 1000,
        "net.ipv4.neigh.default.unres_qlen_bytes": 212992,
    }
    assert SYSCTLS[name] == documented[name]


def test_ttl_is_obeyed(lab) -> None:
    a = lab.net("a", sysctl={"net.ipv4.ip_default_ttl": 33})
    b = lab.net("b")
    lab.connect(a.add_nic("eth0", "10.0.0.1/24"), b.add_nic("eth0", "10.0.0.2/24"))
    lab.know(a, b)
    a.udp_socket().sendto(b"x", "10.0.0.2", 9)
    lab.run()
    assert lab.frames(a, "out")[0].data[22] == 33


def test_neighbour_sysctls_are_obeyed(lab) -> None:
    a = lab.net("a", sysctl={"net.ipv4.neigh.default.mcast_solicit": 2, "net.ipv4.neigh.default.retrans_time_ms": 100})
    lab.connect(a.add_nic("eth0", "10.0.0.1/24"), lab.net("b").add_nic("eth0"))
    a.udp_socket().sendto(b"x", "10.0.0.2", 9)
    lab.run()
    assert [record.time_ns for record in lab.frames(a, "out")] == [0, 100_000_000]
    assert lab.clock.now_ns >= 200_000_000
