"""The simulation's face: hosts, wires, traffic, errors. Expected counts and times come from arithmetic."""

from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import PcapWriter

from ebpfsim import InputError, KernelError, Simulation
from ebpfsim.simulation import Host

PASS = "r0 = 2; exit"


def two_hosts(sim: Simulation, **wire: object) -> tuple[Host, Host]:
    a, b = sim.host("a"), sim.host("b")
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), **wire)  # type: ignore[arg-type]
    return a, b


def arrivals(sim: Simulation, host: str, size: int = 0) -> list[int]:
    seen = (p for p in sim.recorder.packets if (p.host, p.direction) == (host, "in"))
    return [p.time_ns for p in seen if not size or len(p.data) == size]


def test_thousand_byte_frames_at_one_gigabit_are_8192_ns_apart() -> None:
    # 1000 bytes + preamble 8 + FCS 4 + inter-frame gap 12 (IEEE 802.3) = 1024 bytes = 8192 bits at 1 bit a nanosecond
    sim = Simulation(seed=1)
    a, _ = two_hosts(sim, rate="1Gbit", delay="50us")
    assert a.send("eth0", Ether() / IP(dst="10.0.0.2") / UDP(dport=9) / bytes(958), count=1000) == 1000
    sim.run()
    # there is an ARP answer besides: nobody listens on port 9, and the ICMP error has to find its way
    times = arrivals(sim, "b", size=1000)
    assert times == [8192 * (n + 1) + 50_000 for n in range(1000)]


def test_loss_is_within_five_standard_deviations_and_reproducible() -> None:
    def run(seed: int) -> list[int]:
        sim = Simulation(seed=seed)
        a, _ = two_hosts(sim, loss="10%")
        a.send("eth0", bytes.fromhex("020000000201 020000000101 88b5") + bytes(46), count=2000, every=1000)
        sim.run()
        return arrivals(sim, "b")

    first = run(3)
    # binomial: mean 1800, standard deviation sqrt(2000 * 0.9 * 0.1) = 13.4
    assert 1733 <= len(first) <= 1867
    assert run(3) == first
    assert run(4) != first


def test_until_is_an_instant_and_later_events_wait() -> None:
    sim = Simulation()
    a, _ = two_hosts(sim)
    a.send("eth0", bytes(14) + bytes(46), count=3, every="1ms", at="1ms")
    sim.run(until="2ms")
    assert (sim.now_ns, len(arrivals(sim, "b"))) == (2_000_000, 2)
    sim.run(until="10ms")
    assert len(arrivals(sim, "b")) == 3


def test_packet_without_addresses_gets_those_of_the_simulation() -> None:
    sim = Simulation()
    a, b = two_hosts(sim)
    a.send("eth0", Ether() / IP(dst="10.0.0.2") / UDP(dport=9))
    sim.run()
    frame = Ether(next(p.data for p in sim.recorder.packets if p.direction == "out"))
    assert (frame.src, frame.dst) == (a.device("eth0").mac.hex(":"), b.device("eth0").mac.hex(":"))
    assert frame[IP].src == "10.0.0.1"


def test_replay_keeps_the_distances_of_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "traffic.pcap"
    with PcapWriter(str(path), linktype=1, nano=True) as writer:
        for time in (5.0, 5.000_010, 5.000_030):
            frame = Ether(src="02:00:00:00:01:01", dst="02:00:00:00:02:01", type=0x88B5) / bytes(46)
            frame.time = time
            writer.write(frame)
    sim = Simulation()
    a, _ = two_hosts(sim)
    assert a.replay("eth0", path, speed=2, at="1ms") == 3
    sim.run()
    first, second, third = arrivals(sim, "b")
    assert first == 1_000_000
    # scapy reads time stamps to the nanosecond; halves of 10 and 20 us
    assert (round((second - first) / 1000), round((third - second) / 1000)) == (5, 10)


def test_socket_receives_what_the_stack_passes_up() -> None:
    sim = Simulation()
    a, b = two_hosts(sim, delay="10us")
    sock = b.udp_socket("10.0.0.2", 53)
    a.udp_socket("10.0.0.1", 4000).sendto(b"hello", "10.0.0.2", 53)
    sim.run()
    assert [datagram.data for datagram in sock.received] == [b"hello"]


def test_descriptor_that_is_no_program_is_refused() -> None:
    host = Simulation().host("a")
    host.nic("eth0")
    with pytest.raises(KernelError, match="fd 99 of host 'a' is no program") as refused:
        host.attach_xdp(99, "eth0")
    assert refused.value.errno_name == "EBADF"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda sim: sim.host("a"), "there is a host 'a' already"),
        (lambda sim: sim.hosts["a"].attach_xdp(3, "eth0", mode="navite"), "XDP mode 'navite' is not known"),
        (lambda sim: two_wires(sim, loss="often"), "loss 'often' is not a probability"),
        (lambda sim: two_wires(sim, rate="fast"), "rate 'fast' is not understood"),
    ],
)
def test_wrong_use_is_named(wrong: object, message: str) -> None:
    sim = Simulation()
    sim.host("a").nic("eth0")
    with pytest.raises(InputError) as refused:
        wrong(sim)  # type: ignore[operator]
    assert message in str(refused.value)


def two_wires(sim: Simulation, **wire: object) -> None:
    sim.link(sim.hosts["a"].nic("eth1"), sim.hosts["a"].nic("eth2"), **wire)  # type: ignore[arg-type]


def test_unknown_device_comes_with_a_suggestion() -> None:
    host = Simulation().host("a")
    host.nic("eth0")
    with pytest.raises(KernelError, match="host 'a' has no device 'eht0'; did you mean 'eth0'"):
        host.device("eht0")


@pytest.mark.parametrize("engine", ["interp", "jit"])
def test_a_budget_of_instructions_ends_long_runs(engine: str) -> None:
    from ebpfsim import KernelOops
    from ebpfsim.isa.asm import assemble
    from ebpfsim.isa.insn import encode
    from ebpfsim.uapi.bpf import ProgType

    # 3 instructions a round, 2 in front and 2 behind
    code = encode(assemble("r0 = 0; r6 = 0; l: r6 += 1; r0 ^= r6; if r6 != 100 goto l; r0 = 2; exit"))
    for budget, done in ((304, True), (303, False)):
        bpf = Simulation().host("a", engine=engine, insn_budget=budget).bpf
        fd = bpf.prog_load(ProgType.XDP, code, license="GPL", name="long").fd
        if done:
            assert bpf.prog_test_run(fd, bytes(64)).retval == 2
            continue
        with pytest.raises(KernelOops, match="runaway: more than 303 instructions in program 'long' at insn 5"):
            bpf.prog_test_run(fd, bytes(64))
    with pytest.raises(InputError, match="a budget of 0 instructions"):
        Simulation().host("a", insn_budget=0)
