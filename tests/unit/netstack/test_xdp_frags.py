"""struct skb_shared_info, against the BTF of Linux 6.18."""

from ebpfsim.btf.layout import member_offset
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.memory import Memory
from netstack.xdp_frags import MAX_SKB_FRAGS, Frag, frags, frags_size, set_frags


def test_fragments_read_as_in_the_kernel() -> None:
    mem = Memory(1 << 25)
    info = mem.alloc(320)
    rows = [Frag(0x1000, 4096), Frag(0x2000, 100, 16)]
    set_frags(mem, info, rows)
    places = {"nr_frags": 1, "xdp_frags_size": 4, "frags[1].netmem": 8, "frags[1].len": 4, "frags[1].offset": 4}
    found = [mem.load(info + member_offset(vmlinux(), "skb_shared_info", path), size) for path, size in places.items()]
    assert found == [2, 4196, 0x2000, 100, 16]
    assert (frags(mem, info), frags_size(mem, info)) == (rows, 4196)
    assert rows[1].address == 0x2010


def test_all_fragments_fit() -> None:
    mem = Memory(1 << 25)
    info = mem.alloc(320)
    rows = [Frag(4096 * i, i) for i in range(MAX_SKB_FRAGS)]
    set_frags(mem, info, rows)
    assert frags(mem, info) == rows
    set_frags(mem, info, [])
    assert (frags(mem, info), frags_size(mem, info)) == ([], 0)
