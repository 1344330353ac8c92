"""Records of sockets' trace events, as Linux 6.12 printed them for one connection (facts of the recorded scenarios)."""

import ebpfsim
from netstack.tcp import TcpMsg, tcp_socket
from netstack.tcp_ipv4 import connect_to
from tracing.tcp_records import TCP_BUILDERS
from tracing.trace_events import find_event, pack

NAMES = sorted(TCP_BUILDERS)


def test_a_change_of_state_and_a_probe() -> None:
    sim = ebpfsim.Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"))
    listener = tcp_socket(b.net, b.net.cpus[0])
    b.net.tcp.get_port(listener, 0, 8080)
    listener.max_ack_backlog = 1
    b.net.functions.inet_csk_listen_start(b.net.cpus[0], listener)
    seen: list[tuple[str, dict]] = []
    for name in ("sock:inet_sock_set_state", "tcp:tcp_probe", "tcp:tcp_destroy_sock"):
        event = find_event(name)

        def probe(cpu: object, *args: int, name: str = name) -> None:
            values = TCP_BUILDERS[name](a.kernel, *args)
            assert len(pack(find_event(name), values)) == find_event(name).size
            seen.append((name, dict(values)))

        a.kernel.tracepoints.get(event.name).add_probe(probe)
    tp, cpu = tcp_socket(a.net, a.net.cpus[0]), a.net.cpus[0]
    connect_to(cpu, tp, 0x0A000002, 8080)
    a.net.softnet[0].settle()
    sim.run("1ms")
    child = b.net.functions.inet_csk_accept(b.net.cpus[0], listener, TcpMsg())
    b.net.functions.tcp_sendmsg(b.net.cpus[0], child, TcpMsg(b"hello"), 5)
    b.net.softnet[0].settle()
    sim.run("2ms")
    first, second, data = seen[0][1], seen[1][1], seen[2][1]
    # the port is not known yet when connecting begins: sport=0 dport=8080 saddr=10.0.0.1 daddr=10.0.0.2
    assert (first["oldstate"], first["newstate"], first["sport"], first["dport"]) == (7, 2, 0, 8080)
    assert (first["saddr"], first["daddr"], first["family"], first["protocol"]) == (
        bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), 2, 6,
    )  # fmt: skip
    assert first["saddr_v6"] == bytes(10) + b"\xff\xff" + bytes((10, 0, 0, 1))
    assert (second["oldstate"], second["newstate"], second["sport"]) == (2, 1, tp.port)
    assert seen[2][0] == "tcp:tcp_probe"
    assert (data["data_len"], data["snd_cwnd"], data["sport"], data["dport"]) == (5, 10, tp.port, 8080)


def test_every_builder_is_of_an_event_of_linux() -> None:
    for name in NAMES:
        assert find_event(name).members
