"""The functions and tracepoints that packets pass, in the order that Linux 6.12 was recorded to have."""

from typing import Any

import pytest
from call_paths import steps
from net_paths import NetPaths, events, functions, sockaddr, warm
from recordings import known, trees

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType
from netstack.drop_reasons import SkbDropReason
from netstack.functions import stack_functions
from netstack.marks import kinds_of
from tracing.functions import kernel_model


def udp_sendto_veth(paths: NetPaths) -> None:
    b = paths.pair()
    b.udp_socket("10.0.0.2", 5000)
    warm(paths.a)
    warm(b)
    paths.send(("10.0.0.2", 5000))


def udp_loopback_send(paths: NetPaths) -> None:
    paths.a.udp_socket("127.0.0.1", 5000)
    paths.send(("127.0.0.1", 5000), bound="0.0.0.0")


def udp_drop_no_socket(paths: NetPaths) -> None:
    b = paths.pair()
    warm(paths.a)
    b.fib.local.lookup(0x0A000002).input_cached = True
    paths.a.fib.local.lookup(0x0A000001).input_cached = False
    paths.send(("10.0.0.2", 5999), b"x")


def forward_udp(paths: NetPaths) -> None:
    r, c = paths.router()
    c.udp_socket("10.0.1.2", 5000)
    for net in (paths.a, r, c):
        warm(net)
    paths.send(("10.0.1.2", 5000), bound="0.0.0.0")


def forward_ttl_exceeded(paths: NetPaths) -> None:
    r, _ = paths.router(stale=True)
    warm(paths.a)
    r.fib.main.lookup(0x0A000102).input_cached = True
    paths.a.fib.local.lookup(0x0A000001).input_cached = False
    paths.send(("10.0.1.2", 5000), bound="0.0.0.0", ttl=1)


def arp_request_reply(paths: NetPaths) -> None:
    b = paths.pair(known_neighbours=False)
    warm(paths.a)
    b.fib.local.lookup(0x0A000002).input_cached = True
    paths.a.fib.local.lookup(0x0A000001).input_cached = False
    paths.send(("10.0.0.2", 5999), bound="0.0.0.0")


SCENARIOS = [
    udp_sendto_veth, udp_loopback_send, udp_drop_no_socket, forward_udp, forward_ttl_exceeded, arp_request_reply,
]  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_functions_come_in_the_recorded_order(scenario: Any) -> None:
    paths = NetPaths()
    scenario(paths)
    ours, recorded = functions(paths, scenario.__name__)
    if "udp_v4_get_port" in recorded and "udp_v4_get_port" not in ours:
        # the recorded socket got its port in the call
        recorded = [name for name in recorded if not name.endswith("_get_port")]
    if recorded[-1] == "handle_softirqs":
        recorded.pop()
    assert ours == recorded


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_tracepoints_come_in_the_recorded_order(scenario: Any) -> None:
    paths = NetPaths()
    scenario(paths)
    ours = [name for name, _ in paths.events]
    names = {*ours, "kfree_skb", "consume_skb"}
    recorded = [(name, text) for name, text in events(scenario.__name__) if name in names and "netlink" not in text]
    assert ours == [name for name, _ in recorded]
    # why packets were dropped
    reasons = [args[2] for name, args in paths.events if name == "kfree_skb"]
    said = [text.rpartition("reason: ")[2] for name, text in recorded if name == "kfree_skb"]
    assert [SkbDropReason(reason).name for reason in reasons] == said


def test_every_function_has_as_many_words_as_in_the_kernel() -> None:
    for name, function in stack_functions().items():
        code = getattr(function, "__code__", None)
        assert code is not None
        takes_any = bool(code.co_flags & 0x04)
        assert takes_any or code.co_argcount - 1 == kernel_model(name).nr_words, name


def test_most_of_what_packets_were_recorded_to_pass_is_there() -> None:
    paths = NetPaths()
    have = set(paths.kernel.functions.names())
    names = {name for scenario in SCENARIOS for name in trees()[scenario.__name__] if name in known()}
    missing = sorted(names - have)
    print(f"{len(names) - len(missing)} of {len(names)} functions; missing: {' '.join(missing)}")
    assert len(missing) < len(names) / 5


def packet_argument(name: str) -> int | None:
    """Return which argument of a function is a packet, counted from 1, as pwru finds it in the BTF."""
    kinds = kinds_of(name)
    return kinds.index("sk_buff") + 1 if "sk_buff" in kinds[:5] else None


def test_probes_on_all_functions_follow_one_packet() -> None:
    """What pwru does: a kprobe on every function that takes a packet, one program for each place of the argument."""
    paths = NetPaths()
    b = paths.pair()
    received = b.udp_socket("10.0.0.2", 5000)
    # where struct pt_regs has the arguments: di, si, dx, cx, r8
    offsets = {1: 112, 2: 104, 3: 96, 4: 88, 5: 72}
    by_place: dict[int, list[str]] = {}
    for name in sorted(stack_functions()):
        place = packet_argument(name)
        if place is not None:
            by_place.setdefault(place, []).append(name)
    host, kernel = paths.host, paths.kernel
    for place, names in by_place.items():
        text = f"r0 = *(u64 *)(r1 + {offsets[place]}); exit"
        loaded = host.bpf.prog_load(
            ProgType.KPROBE, encode(assemble(text)), expected_attach_type=AttachType.TRACE_KPROBE_MULTI, license="GPL"
        )
        kernel.kprobes.attach_multi(host.prog(loaded.fd), names)
    paths.run(steps([("socket", 2, 2, 0), ("sendto", 3, b"hello", 5, 0, sockaddr("10.0.0.2", 5000), 16)]))
    assert [datagram.data for datagram in received.received] == [b"hello"]
    runs = [(run.device, run.retval) for run in kernel.recorder.runs if run.hook.startswith("kprobe")]
    packets = {packet for name, packet in runs if name == "udp_send_skb"}
    assert len(packets) == 1
    walk = [name for name, packet in runs if packet in packets]
    expected = (
        *("udp_send_skb", "ip_send_skb", "__ip_local_out", "ip_output", "ip_finish_output", "ip_finish_output2"),
        *("neigh_resolve_output", "__dev_queue_xmit", "dev_hard_start_xmit", "veth_xmit", "__netif_rx"),
        *("__netif_receive_skb", "ip_rcv", "ip_rcv_core", "ip_local_deliver", "ip_protocol_deliver_rcu", "udp_rcv"),
        *("__udp4_lib_rcv", "udp_queue_rcv_skb", "sk_filter_trim_cap", "__udp_enqueue_schedule_skb"),
    )
    assert [name for name in walk if name in expected] == list(expected)
    assert len(by_place[1]) > 60
    assert len(walk) > 40


def test_a_datagram_that_is_read() -> None:
    paths = NetPaths()

    def what(_task: Any, call: Any) -> None:
        call("socket", 2, 2, 0)
        call("bind", 3, sockaddr("127.0.0.1", 5000), 16)
        call("socket", 2, 2, 0)
        call("sendto", 4, b"hello", 5, 0, sockaddr("127.0.0.1", 5000), 16)
        paths.watch()
        assert call("recvfrom", 3, bytes(64), 64, 0x40, bytes(16), (16).to_bytes(4, "little")) == 5
        paths.stop()

    paths.run(what)
    ours, recorded = functions(paths, "udp_recvfrom", "__x64_sys_recvfrom")
    quiet = ("__do_softirq", "handle_softirqs")
    assert ours == [name for name in recorded if name not in quiet]
    assert [name for name, _ in paths.events] == ["consume_skb", "sock_recv_length"]


def test_a_full_buffer_drops_and_reading_makes_room() -> None:
    # 212992 bytes of packets that take 960 each
    paths = NetPaths()
    counts = []

    def what(_task: Any, call: Any) -> None:
        call("socket", 2, 2, 0)
        call("bind", 3, sockaddr("127.0.0.1", 5000), 16)
        call("socket", 2, 2, 0)
        for _ in range(300):
            call("sendto", 4, b"x", 1, 0, sockaddr("127.0.0.1", 5000), 16)
        counts.append(paths.a.snmp["UdpRcvbufErrors"])
        for _ in range(10):
            call("recvfrom", 3, bytes(64), 64, 0x40, 0, 0)
        for _ in range(20):
            call("sendto", 4, b"x", 1, 0, sockaddr("127.0.0.1", 5000), 16)
        counts.append(paths.a.snmp["UdpRcvbufErrors"])

    paths.run(what)
    assert counts == [300 - 221, 300 - 221 + 10]
    assert paths.a.drops == {"SOCKET_RCVBUFF": 89}
