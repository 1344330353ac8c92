"""``struct tcp_sock`` in RAM: members where the kernel's BTF has them, fresh whenever the address is asked for."""

from typing import Any

import pytest
from tcp_script import Script

from ebpfsim.btf.view import place, size_of
from netstack.tcp_states import TcpState
from netstack.tcp_struct import WRITABLE

SCRIPT = """
0    listen
+0   < S 0:0(0) win 65535 <mss 1000>
+0   > S. 0:0(0) ack 1
+.1  < . 1:1(0) ack 1 win 65535
+0   accept
+0   write 2000
+0   > . 1:1001(1000) ack 1
+0   > P. 1001:2001(1000) ack 1
"""


@pytest.fixture
def tp() -> Any:
    return Script(SCRIPT).run().sock


def member(tp: Any, path: str) -> int:
    offset, size = place("tcp_sock", path)
    return int(tp.net.kernel.mem.load(tp.struct_address + offset, size))


SK = "inet_conn.icsk_inet.sk."


def test_members(tp: Any) -> None:
    common = SK + "__sk_common."
    assert member(tp, common + "skc_state") == TcpState.ESTABLISHED
    assert member(tp, common + "skc_family") == 2
    assert member(tp, common + "skc_num") == 8080
    assert member(tp, common + "skc_dport").to_bytes(2, "little") == (35000).to_bytes(2, "big")
    assert member(tp, common + "skc_daddr").to_bytes(4, "little") == bytes((192, 0, 2, 1))
    assert member(tp, SK + "sk_protocol") == 6
    assert member(tp, SK + "sk_type") == 1
    assert member(tp, "packets_out") == 2
    assert member(tp, "snd_cwnd") == 10
    assert member(tp, "mss_cache") == 1000
    assert member(tp, "snd_nxt") - member(tp, "snd_una") & 0xFFFF_FFFF == 2000
    assert member(tp, "srtt_us") >> 3 == 100_000 - 1 or abs((member(tp, "srtt_us") >> 3) - 100_000) < 100
    assert member(tp, "data_segs_out") == 2
    assert member(tp, "bytes_sent") == 2000


def test_it_has_the_kernels_size_and_follows(tp: Any) -> None:
    assert size_of("tcp_sock") == 2304
    address = tp.struct_address
    tp.snd_cwnd = 77
    assert member(tp, "snd_cwnd") == 77
    assert tp.struct_address == address
    assert tp.net.tcp.structs.at(address) is tp


def test_what_programs_of_congestion_control_may_write_is_taken_back(tp: Any) -> None:
    mem, base = tp.net.kernel.mem, tp.struct_address
    for number, name in enumerate(WRITABLE, 5):
        offset, size = place("tcp_sock", name)
        mem.store(base + offset, size, number)
    tp.net.tcp.structs.take_back(tp)
    assert [getattr(tp, name) for name in WRITABLE] == [5, 6, 7, 8, 9]


def test_a_segment_that_was_sent(tp: Any) -> None:
    skb = tp.rtx_queue[0]
    mem, address = tp.net.kernel.mem, skb.struct_address
    # two segments in one packet (include/net/tcp.h: tcp_gso_segs, tcp_gso_size)
    assert mem.load(address + place("sk_buff", "len")[0], 4) == 2000
    cb = address + place("sk_buff", "cb")[0]
    shape = [mem.load(cb + place("tcp_skb_cb", name)[0], 2) for name in ("tcp_gso_segs", "tcp_gso_size")]
    assert shape == [2, 1000]
    assert mem.load(address + place("sk_buff", "cb")[0] + place("tcp_skb_cb", "seq")[0], 4) == tp.snd_una
    assert tp.net.tcp.structs.find(address) is skb


def test_a_structure_that_was_freed_is_found_no_more(tp: Any) -> None:
    address = tp.struct_address
    tp.net.tcp.structs.forget(tp)
    assert tp.net.tcp.structs.find(address) is None
