"""Expectations: met, not met, and what they say they found."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Play

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"
START = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {cpus: 2, interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0]}]
objects:
  fw: {host: b, file: firewall.bpf.o}
  chain: {host: b, file: parser_chain.bpf.o}
  bad: {host: b, file: rejected.bpf.o}
  say: {host: b, type: xdp, asm: "r0 = 2; exit"}
sockets: {dns: {host: b, udp: 10.0.0.2:53}}
maps: {fw/blocked: {10.0.0.66: 1}}
attach: [{id: guard, program: fw/firewall, hook: xdp, device: eth0}]
events:
  - {at: 0, host: a, device: eth0, send: "Ether()/IP(src='10.0.0.66', dst='10.0.0.2')/UDP(dport=53)/'bad'", count: 4}
  - {at: 1ms, host: a, device: eth0, send: "Ether()/IP(src='10.0.0.1', dst='10.0.0.2')/UDP(sport=9, dport=53)/'good'", count: 3}
  - {at: 2ms, host: a, device: eth0, send: "Ether()/IP(src='10.0.0.1', dst='10.0.0.2')/TCP(dport=80, flags='R')"}
expect:
  - {load: bad, verdict: reject}
"""  # noqa: E501

MET = [
    "{link: guard, runs: 8, verdicts: {XDP_DROP: 4, XDP_PASS: 4}}",
    "{link: guard, runs: [1, 10], verdicts: {XDP_TX: 0}}",
    "{map: fw/stats, key: 1, equals: {packets: 4}}",
    "{map: fw/stats, key: 2, equals: {bytes: 192}}",  # 3 x (14 + 20 + 8 + 4) + 54
    "{map: fw/stats, equals: {1: {packets: 4}, 2: {packets: 4}}}",
    "{map: fw/stats, contains: {0: {packets: 0, bytes: 0}}}",
    "{map: fw/blocked, key: 10.0.0.66, equals: 1}",
    "{map: fw/blocked, key: 10.0.0.1, equals: null}",
    "{map: fw/blocked, equals: {10.0.0.66: 1}, entries: 1}",
    "{map: chain/scratch, key: 0, equals: {protocol: 0}}",  # the sum over the CPUs
    "{map: chain/scratch, key: 0, equals: [{protocol: 0}, {l4_off: 0}]}",
    "{packets: {host: b, device: eth0, direction: in}, count: 4}",  # as a capture behind XDP would show
    "{packets: {host: b, device: eth0, direction: in, verdict: XDP_DROP}, count: 4}",
    "{packets: {host: a, device: eth0, direction: out}, count: 8}",
    "{packets: {host: b, device: eth0, direction: in, match: {UDP: {sport: 9, dport: [53, 54]}}}, count: 3}",
    "{packets: {host: a, device: eth0, direction: out, match: {IP: {src: 10.0.0.64/26}}}, count: 4}",
    "{packets: {host: b, device: eth0, direction: in, match: {TCP: {flags: R}}}, count: 1}",
    "{packets: {host: b, device: eth0, direction: in, match: {Raw: {load: good}}}, count: 3}",
    "{packets: {host: b, device: eth0, direction: in, match: {ARP: null}}, count: 0}",
    "{socket: dns, received: 3, contains: good}",
    "{device: b/eth0, counters: {rx_packets: 8, tx_packets: 0}}",
    "{trace_pipe: b, contains: anything, count: 0}",
    "{load: fw, verdict: accept}",
    "{load: bad/unchecked, verdict: reject, errno: EACCES, message: invalid access to packet}",
]  # fmt: skip
NOT_MET = [
    ("{link: guard, runs: 7}", "link 'guard': runs", "7", "8"),
    ("{link: guard, verdicts: {XDP_TX: [1, 3]}}", "link 'guard': XDP_TX", "1 to 3", "0"),
    ("{map: fw/stats, key: 1, equals: {packets: 5}}", "map 'fw/stats'[1]", "{packets: 5}", "{packets: 4}"),
    ("{map: fw/blocked, key: 10.0.0.1, equals: 1}", "map 'fw/blocked'[10.0.0.1]", "1", "no entry"),
    ("{map: fw/blocked, equals: {}}", "map 'fw/blocked': other entries", "none", "{10.0.0.66: 1}"),
    ("{map: fw/blocked, entries: 2}", "map 'fw/blocked': entries", "2", "1"),
    ("{socket: dns, contains: bad}", "socket 'dns': datagrams with 'bad'", "1 or more", "0"),
    ("{device: b/eth0, counters: {rx_packets: 9}}", "device 'b/eth0': rx_packets", "9", "8"),
    ("{trace_pipe: b, contains: x}", "trace pipe of 'b': lines with 'x'", "1 or more", "0"),
    ("{load: fw, verdict: reject}", "load 'fw'", "reject", "accept"),
    ("{load: bad, verdict: reject, errno: EINVAL}", "load 'bad': errno", "EINVAL", "EACCES"),
    (
        "{load: bad, verdict: reject, message: x y z}",
        "load 'bad': message",
        "x y z",
        "R1 offset is outside of the packet",
    ),
]


def test_expectations_that_are_met(play: "Play") -> None:
    _, results = play(START + "".join(f"  - {text}\n" for text in MET), BPF)
    assert [result for result in results if not result.met] == []
    assert len(results) >= len(MET)


def test_expectations_that_are_not_met(play: "Play") -> None:
    rows = [row for row in NOT_MET if not row[0].startswith("{load: fw")]
    _, results = play(START + "".join(f"  - {row[0]}\n" for row in rows), BPF)
    unmet = [(result.what, result.want, result.have) for result in results if not result.met]
    assert unmet == [row[1:] for row in rows]
    assert [result.at for result in results if not result.met] == [
        f"x.yaml:{19 + index}:5" for index in range(len(rows))
    ]


def test_program_that_should_have_been_refused(play: "Play") -> None:
    text = START.replace("attach: [", "x-attach: [")
    _, results = play(f"{text}  - {{load: fw, verdict: reject}}\n", BPF)
    assert [(result.want, result.have) for result in results if not result.met] == [("reject", "accept")]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_values_of_per_cpu_maps_need_one_for_each_cpu(play: "Play", size: int) -> None:
    from ebpfsim.errors import ScenarioError

    text = START.replace("maps: {", f"maps: {{chain/scratch: {{0: [{', '.join(['{protocol: 1}'] * size)}]}}, ")
    if size == 2:
        running, _ = play(text, BPF)
        assert [value["protocol"] for value in running.map_of("chain/scratch")[0]] == [1, 1]
    else:
        with pytest.raises(ScenarioError, match=f"{size} values, host 'b' has 2 CPUs"):
            play(text, BPF)


RECORDS = """\
hosts:
  a: {interfaces: {eth0: {address: 10.0.0.1/24}}}
  b: {interfaces: {eth0: {address: 10.0.0.2/24}}}
links: [{ends: [a/eth0, b/eth0]}]
objects: {ring: {host: b, file: ringbuf_events.v3.o}}
attach: [{program: ring, hook: xdp, device: eth0}]
events:
  - {at: 0, host: a, device: eth0, send: "Ether()/IP(dst='10.0.0.2')/UDP()/('x'*50)", count: 1000, every: 1us}
  - {at: 1ms, host: a, device: eth0, send: "Ether()/IP(dst='10.0.0.2')/UDP()"}
expect:
"""
BUILT = BPF.parents[1] / "tests" / "objects" / "built"


def test_records_of_a_ring_buffer_are_read_while_it_runs(play: "Play") -> None:
    # 1000 records of 32 bytes do not fit into the ring of 4096: somebody has to read. The program's own struct (u32
    # len; __be32 saddr; u8 head[16]) is not in its BTF; struct xdp_md is, and is six times u32.
    text = RECORDS + "  - {records: ring/events, count: 1001}\n"
    text += "  - {records: ring/events, type: xdp_md, first: {data: 92}, last: {data: 42}, contains: {data: 42}}\n"
    text += "  - {records: ring/events, type: struct xdp_md, last: {data: 43}}\n"
    running, results = play(text, BUILT)
    assert [(result.want, result.have) for result in results if not result.met] == [("{data: 43}", "{data: 42}")]
    assert running.records["ring/events"][0][4:8] == bytes([10, 0, 0, 1])


@pytest.mark.parametrize(
    ("expectation", "problem"),
    [
        ("{records: ring/events, type: event, count: 1}", "unknown struct 'event'"),
        ("{records: ring/events, first: {len: 92}}", "records have no type of their own"),
        ("{records: ring/events, type: xdp_md, first: {date: 92}}", "has no member 'date'"),
        ("{records: ring/event, count: 1}", "unknown map of 'ring': 'event'; did you mean 'events'?"),
        ("{records: ring/.bss, count: 1}", "map 'ring/.bss' is of type array, expected ringbuf"),
        ("{records: ring/events, type: xdp_md}", "'records' expects nothing"),
    ],
)
def test_wrong_expectation_of_records(play: "Play", expectation: str, problem: str) -> None:
    from ebpfsim.errors import ScenarioError

    with pytest.raises(ScenarioError) as caught:
        play(f"{RECORDS}  - {expectation}\n", BUILT)
    assert problem in caught.value.problem
    assert caught.value.where.startswith("x.yaml:11:")
