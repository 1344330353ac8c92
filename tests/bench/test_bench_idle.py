"""A day on which nearly nothing happens: connections that keep themselves alive, and the timers of their neighbours.

``python -m pytest tests/bench/test_bench_idle.py -m bench``. CPU time; nothing but the number of probes is asserted.
"""

import time

import pytest

import ebpfsim
from netstack.headers import parse_ip
from netstack.sockopt import IPPROTO_TCP, TCP_KEEPIDLE, set_tcp_option
from netstack.tcp import tcp_socket
from netstack.tcp_flow import TcpServer
from netstack.tcp_ipv4 import connect_to

pytestmark = pytest.mark.bench

DAY_S, PAIRS, IDLE_S = 24 * 3600, 10, 75


def test_a_day_of_keepalives(capsys: pytest.CaptureFixture[str]) -> None:
    """The goal is less than 20 seconds: ten connections with a probe every 75 s, which keeps ARP busy as well."""
    sim = ebpfsim.Simulation(seed=1, record=False)
    nets = []
    for number in range(PAIRS):
        a, b = sim.host(f"a{number}"), sim.host(f"b{number}")
        sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="1Gbit", delay="100us")
        TcpServer(b.net, 5001, lambda child, cpu: None)
        net, cpu = a.net, a.net.cpus[0]
        sock = tcp_socket(net, cpu)
        set_tcp_option(cpu, sock, IPPROTO_TCP, TCP_KEEPIDLE, IDLE_S.to_bytes(4, "little"))
        sock.keepopen = True
        assert connect_to(cpu, sock, parse_ip("10.0.0.2"), 5001) in (0, -115)
        net.softnet[0].settle()
        nets.append(net)
    started = time.process_time()
    sim.run(f"{DAY_S}s")
    seconds = time.process_time() - started
    probes = sum(net.snmp["TcpExtTCPKeepAlive"] for net in nets)
    with capsys.disabled():
        print(f"\n  24 hours of {PAIRS} idle connections {seconds:10.2f} s, {probes} probes", end="")
    assert probes >= PAIRS * (DAY_S // (2 * IDLE_S) - 10)
