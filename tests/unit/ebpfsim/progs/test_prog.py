"""A loaded program holds its maps until its last reference goes."""

from ebpfsim.isa.asm import assemble
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.progs.prog import Prog, Subprog
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType


def test_release_lets_the_maps_go() -> None:
    told = []
    map_ = create_map(MapAttr(MapType.ARRAY, 4, 8, 1), Memory(), 1)
    insns = assemble("r0 = 2; exit")
    subprogs = (Subprog(0, 2, "p", 0),)
    prog = Prog("p", ProgType.XDP, AttachType.XDP, insns, subprogs, (map_,), released=told.append)
    map_.get()  # the program's; the maker keeps its own
    prog.get()
    prog.put()
    assert map_.refs == 2
    prog.put()
    assert map_.refs == 1
    assert told == [prog]


def test_addresses_of_functions_lie_in_the_image() -> None:
    prog = Prog("p", ProgType.XDP, AttachType.XDP, assemble("r0 = 2; exit"), (), (), image_addr=0xFFFF_8880_0100_0000)
    assert prog.func_addr(3) == 0xFFFF_8880_0100_0018
