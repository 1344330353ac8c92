"""A segment in RAM: its data begins with the TCP header, the control block tells its place in the stream."""

import ebpfsim
from ebpfsim.btf.view import place
from ebpfsim.uapi.net import EtherType
from netstack.skb import SkBuff
from netstack.tcp_hdr import ACK, Tcphdr, tcp_bytes
from netstack.tcp_segment import Segment


def test_structure() -> None:
    host = ebpfsim.Simulation(seed=1).host("h")
    nic = host.nic("eth0", "10.0.0.1/24")
    data = tcp_bytes(1, 2, (3, 4), 100, 7, ACK, 9, b"", b"hello")
    skb = SkBuff(bytes(14 + 20) + data, nic, EtherType.IP)
    skb.network_header, skb.transport_header, skb.has_mac_header = 14, 34, True
    segment = Segment(skb, Tcphdr(data), 0)
    mem, address = host.net.kernel.mem, segment.struct_address
    begin = mem.load(address + place("sk_buff", "data")[0], 8)
    assert bytes(mem.read(begin, len(data))) == data
    control = address + place("sk_buff", "cb")[0]
    assert mem.load(control + place("tcp_skb_cb", "seq")[0], 4) == 100
    assert mem.load(control + place("tcp_skb_cb", "end_seq")[0], 4) == 105
    assert segment.net is host.net
    # what it costs a buffer: struct sk_buff and a head of 2 KiB or less
    assert segment.truesize == skb.truesize
