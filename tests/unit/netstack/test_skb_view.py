"""``struct sk_buff`` of packets that somebody looks at: the arithmetic of include/linux/skbuff.h."""

from ebpfsim.btf.view import place
from netstack.eth import eth_type_trans
from netstack.headers import EthHdr
from netstack.sk_buff import NO_HEADER, SkbStruct
from netstack.skb import SkBuff
from netstack.skb_xmit import dev_hard_header_xmit


def packet(net, data: bytes = b"E" + bytes(27)) -> SkBuff:
    skb = SkBuff(data, net.devices["eth0"], 0x0800)
    skb.transport_header = 20
    return skb


def test_a_packet_shows_its_bytes_and_headers(lab) -> None:
    net, _ = lab.pair()
    skb = packet(net, bytes(range(28)))
    struct = SkbStruct(net.kernel.mem, skb.struct_address)
    assert (struct.len, struct.data_len, struct.tail - (struct.data - struct.head)) == (28, 0, 28)
    assert struct.mem.read(struct.data, 28) == bytes(range(28))
    assert struct.head + struct.network_header == struct.data
    assert struct.head + struct.transport_header == struct.data + 20
    assert (struct.mac_header, struct.dev) == (NO_HEADER, net.devices["eth0"].struct_address)
    assert struct.mem.load(struct.address + place("sk_buff", "users")[0], 4) == 1


def test_a_header_in_front_moves_the_data_and_not_the_packet(lab) -> None:
    net, _ = lab.pair()
    dev = net.devices["eth0"]
    skb = packet(net)
    address = skb.struct_address
    before = SkbStruct(net.kernel.mem, address).data
    seen = []
    dev.ndo_start_xmit = lambda sent, _cpu: seen.append(sent.struct_address) or 0
    dev_hard_header_xmit(skb, dev, b"\2" * 6, dev.mac, net.cpus[0])
    struct = SkbStruct(net.kernel.mem, skb.struct_address)
    assert seen == [address]
    assert (struct.address, struct.data, struct.len) == (address, before - 14, 42)
    assert struct.head + struct.mac_header == struct.data
    assert struct.network_header - struct.mac_header == 14


def test_what_was_pulled_is_in_front_of_the_data(lab) -> None:
    net, _ = lab.pair()
    dev = net.devices["eth0"]
    frame = EthHdr(dev.mac, b"\2" * 6, 0x0800).pack() + bytes(28)
    skb = eth_type_trans(frame, dev, dev.record("in", frame))
    struct = SkbStruct(net.kernel.mem, skb.struct_address)
    assert (struct.len, struct.mac_len, struct.data - struct.head - struct.mac_header) == (28, 14, 14)
    assert struct.transport_header == NO_HEADER


def test_a_packet_that_has_gone_keeps_its_address_and_gives_its_memory_back(lab) -> None:
    net, _ = lab.pair()
    skb = packet(net)
    address = skb.struct_address
    skb.consume()
    assert skb.struct_address == address
    other = packet(net)
    assert other.struct_address == address


def test_longer_data_find_room(lab) -> None:
    net, _ = lab.pair()
    skb = packet(net)
    assert skb.struct_address
    skb.data = bytes(range(256)) * 20
    struct = SkbStruct(net.kernel.mem, skb.struct_address)
    assert struct.mem.read(struct.data, 5120) == skb.data
