"""``struct sk_buff`` in RAM: offsets against the BTF of Linux 6.18, and room around the data."""

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Composite
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.memory import Memory
from netstack.sk_buff import SHARED_INFO_BYTES, SK_BUFF_BYTES, SkbShared, SkbStruct, _Field

# members of structures that live in the control block
IN_CB = {"pkt_len": 40, "tc_classid": 40 + 6, "data_meta": 40 + 32, "data_end": 40 + 40}


def _members(btf: Btf, type_id: int, base: int = 0) -> dict[str, tuple[int, int]]:
    # name -> bits from the start and bits of a bit field, members of anonymous parts included
    found: dict[str, tuple[int, int]] = {}
    composite = btf.type(type_id)
    if isinstance(composite, Composite):
        for member in composite.members:
            if member.name:
                found[member.name] = (base + member.bit_off, member.bitfield_bits)
            else:
                found |= _members(btf, member.type_id, base + member.bit_off)
    return found


def _fields(struct: type) -> dict[str, _Field]:
    return {name: field for name, field in vars(struct).items() if isinstance(field, _Field)}


def test_fields_lie_where_the_btf_says() -> None:
    btf = vmlinux()
    for struct, name in ((SkbStruct, "sk_buff"), (SkbShared, "skb_shared_info")):
        members = _members(btf, btf.by_name(name))
        for field_name, field in _fields(struct).items():
            if field_name in IN_CB:
                assert field.offset == IN_CB[field_name]
                continue
            where = {"hwtstamp": "hwtstamps", "skb_refdst": "_skb_refdst"}.get(field_name, field_name)
            bits = bin(field.mask).count("1")
            assert (field.offset * 8 + field.shift, bits) == members[where], field_name


def test_sizes() -> None:
    btf = vmlinux()
    assert sizeof(btf, btf.by_name("sk_buff")) == SK_BUFF_BYTES
    assert sizeof(btf, btf.by_name("skb_shared_info")) == SHARED_INFO_BYTES


def test_room_is_made_in_front_and_behind() -> None:
    mem = Memory()
    before = mem.allocated_bytes
    skb = SkbStruct.build(mem, 100)
    assert (skb.headroom, skb.tailroom) == (64, 512 - 320 - 64)  # kmalloc-512 holds 64 + 128 + 320
    skb.put(bytes(range(100)))
    skb.reset_mac_header()
    skb.shinfo.gso_size = 7
    skb.cow_head(65)
    assert (skb.headroom, skb.mac_header) == (128, 128)
    assert skb.linear() == bytes(range(100))
    assert skb.shinfo.gso_size == 7
    skb.push(128)
    skb.mem.fill(skb.data, 128)
    assert skb.linear() == bytes(128) + bytes(range(100))
    skb.free()
    assert mem.allocated_bytes == before
