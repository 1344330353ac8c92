"""Iterators over maps, programs, links and elements: kernel/bpf/bpf_iter.c, v6.18, and tests/facts of a live kernel."""

import struct

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, BpfCmd, LinkType, MapType, ProgType
from hooks.iter import _layout

# the record that every call writes: seq_num, session, and whether there is an object (or its id)
SHOW = """
    r6 = r1
    r7 = *(u64 *)(r6 + 0)
    r1 = *(u64 *)(r7 + 16)
    *(u64 *)(r10 - 24) = r1
    r1 = *(u64 *)(r7 + 8)
    *(u64 *)(r10 - 16) = r1
    r8 = *(u64 *)(r6 + 8)
    r2 = 0
    if r8 == 0 goto write
    r2 = *(u32 *)(r8 + {id})
    write: *(u64 *)(r10 - 8) = r2
    r1 = *(u64 *)(r7 + 0)
    r2 = r10; r2 += -24
    r3 = 24
    call bpf_seq_write
    r0 = 0
    exit
"""
MAP_ID = 92
ELEM = """
    r6 = r1
    r7 = *(u64 *)(r6 + 0)
    r8 = *(u64 *)(r6 + 16)
    r9 = *(u64 *)(r6 + 24)
    if r8 == 0 goto out
    if r9 == 0 goto out
    r1 = *(u64 *)(r7 + 0)
    r2 = r8
    r3 = 4
    call bpf_seq_write
    r1 = *(u64 *)(r7 + 0)
    r2 = r9
    r3 = {size}
    call bpf_seq_write
    out: r0 = 0
    exit
"""


@pytest.fixture
def bpf():
    return Simulation(seed=1).host("h", cpus=2).bpf


def attach(bpf, target: str, text: str, **opts) -> int:
    """Load an iterator program and return the descriptor of its link."""
    btf_id = vmlinux().by_name(f"bpf_iter_{target}", Kind.FUNC)
    insns = encode(assemble(text))
    prog = bpf.prog_load(
        ProgType.TRACING, insns, license="GPL", expected_attach_type=AttachType.TRACE_ITER, attach_btf_id=btf_id
    ).fd
    return bpf.link_create(prog, 0, AttachType.TRACE_ITER, **opts)


def read_all(bpf, fd: int, size: int = 4096) -> bytes:
    """Read to the end."""
    found = b""
    while data := bpf.read(fd, size):
        found += data
    return found


def rows(data: bytes) -> list[tuple[int, int, int]]:
    """Return what SHOW wrote."""
    return list(struct.iter_unpack("<QQQ", data))


def test_maps_in_the_order_of_ids_and_a_last_call_without_one(bpf) -> None:
    fds = [bpf.map_create(MapType.ARRAY, 4, 4, 1) for _ in range(4)]
    ids = [bpf.obj_get_info_by_fd(fd).id for fd in fds]
    bpf.close(fds[1])
    link = attach(bpf, "bpf_map", SHOW.format(id=MAP_ID))
    for session in (1, 2):
        it = bpf.iter_create(link)
        wanted = [ids[0], ids[2], ids[3], 0]
        # seq_num counts objects: the last call has that of the last one
        assert rows(read_all(bpf, it)) == [(min(number, 2), session, found) for number, found in enumerate(wanted)]
        assert bpf.read(it, 100) == b""
        bpf.close(it)


@pytest.mark.parametrize("size", [1, 7, 24, 30, 48])
def test_small_reads_go_on_where_the_last_one_ended(bpf, size) -> None:
    for _ in range(5):
        bpf.map_create(MapType.ARRAY, 4, 4, 1)
    it = bpf.iter_create(attach(bpf, "bpf_map", SHOW.format(id=MAP_ID)))
    assert [row[0] for row in rows(read_all(bpf, it, size))] == [0, 1, 2, 3, 4, 4]


def test_link_info(bpf) -> None:
    fd = bpf.map_create(MapType.HASH, 4, 8, 4)
    link = attach(bpf, "bpf_map_elem", ELEM.format(size=8), iter_info=struct.pack("<I", fd))
    info = bpf.obj_get_info_by_fd(link)
    assert (info.type, info.target_name) == (LinkType.ITER, "bpf_map_elem")
    assert info.map_id == bpf.obj_get_info_by_fd(fd).id


@pytest.mark.parametrize("kind", [MapType.ARRAY, MapType.HASH, MapType.LRU_HASH])
def test_elements(bpf, kind) -> None:
    fd = bpf.map_create(kind, 4, 8, 3)
    for key in range(3):
        bpf.map_update_elem(fd, struct.pack("<I", key), struct.pack("<Q", 10 * key))
    it = bpf.iter_create(attach(bpf, "bpf_map_elem", ELEM.format(size=8), iter_info=struct.pack("<I", fd)))
    assert sorted(struct.iter_unpack("<IQ", read_all(bpf, it))) == [(0, 0), (1, 10), (2, 20)]


def test_elements_of_percpu_maps_come_with_all_values(bpf) -> None:
    fd = bpf.map_create(MapType.PERCPU_ARRAY, 4, 4, 1)
    bpf.map_update_elem(fd, bytes(4), struct.pack("<IIII", 5, 0, 6, 0))
    it = bpf.iter_create(attach(bpf, "bpf_map_elem", ELEM.format(size=16), iter_info=struct.pack("<I", fd)))
    assert struct.unpack("<IIIII", read_all(bpf, it)) == (0, 5, 0, 6, 0)


@pytest.mark.parametrize(("fd", "errno"), [(0, "EBADF"), (99, "EBADF"), ("queue", "EINVAL")])
def test_elements_of_what_is_no_such_map(bpf, fd, errno) -> None:
    if fd == "queue":
        fd = bpf.map_create(MapType.QUEUE, 0, 8, 4)
    with pytest.raises(KernelError, match=errno):
        attach(bpf, "bpf_map_elem", ELEM.format(size=8), iter_info=struct.pack("<I", fd))


def test_links_take_no_target_and_no_flags(bpf) -> None:
    btf_id = vmlinux().by_name("bpf_iter_bpf_map", Kind.FUNC)
    insns = encode(assemble("r0 = 0; exit"))
    prog = bpf.prog_load(ProgType.TRACING, insns, expected_attach_type=AttachType.TRACE_ITER, attach_btf_id=btf_id).fd
    for target, flags in ((1, 0), (0, 1)):
        with pytest.raises(KernelError, match="EINVAL"):
            bpf.link_create(prog, target, AttachType.TRACE_ITER, flags=flags)


def test_a_program_that_returns_1_makes_the_read_fail_with_eagain(bpf) -> None:
    bpf.map_create(MapType.ARRAY, 4, 4, 1)
    it = bpf.iter_create(attach(bpf, "bpf_map", "r0 = 1; exit"))
    for _ in range(2):
        with pytest.raises(KernelError, match="EAGAIN"):
            bpf.read(it, 100)


def test_programs_by_the_id_in_their_aux(bpf) -> None:
    aux, number = _layout("bpf_prog")[1]["aux"][0], _layout("bpf_prog_aux")[1]["id"][0]
    text = SHOW.replace("r2 = *(u32 *)(r8 + {id})", f"r8 = *(u64 *)(r8 + {aux}); r2 = *(u32 *)(r8 + {number})")
    it = bpf.iter_create(attach(bpf, "bpf_prog", text))
    assert [row[2] for row in rows(read_all(bpf, it))] == [1, 0]


def test_links(bpf) -> None:
    links = [attach(bpf, "bpf_link", SHOW.format(id=_layout("bpf_link")[1]["id"][0])) for _ in range(3)]
    it = bpf.iter_create(links[1])
    assert [row[2] for row in rows(read_all(bpf, it))] == [1, 2, 3, 0]


def test_text(bpf) -> None:
    fmt = struct.unpack("<I", b"%d\n\0")[0]
    text = f"""
        r6 = *(u64 *)(r1 + 0)
        r7 = *(u64 *)(r1 + 8)
        if r7 == 0 goto out
        r2 = *(u32 *)(r7 + {MAP_ID})
        *(u64 *)(r10 - 16) = r2
        *(u32 *)(r10 - 8) = {fmt}
        r1 = *(u64 *)(r6 + 0)
        r2 = r10; r2 += -8
        r3 = 4
        r4 = r10; r4 += -16
        r5 = 8
        call bpf_seq_printf
        out: r0 = 0
        exit
    """
    for _ in range(3):
        bpf.map_create(MapType.ARRAY, 4, 4, 1)
    it = bpf.iter_create(attach(bpf, "bpf_map", text))
    assert read_all(bpf, it) == b"1\n2\n3\n"


def test_iterators_by_the_bytes_of_the_system_call(bpf) -> None:
    fd = bpf.map_create(MapType.HASH, 4, 8, 4)
    btf_id = vmlinux().by_name("bpf_iter_bpf_map_elem", Kind.FUNC)
    insns = encode(assemble(ELEM.format(size=8)))
    prog = bpf.prog_load(ProgType.TRACING, insns, expected_attach_type=AttachType.TRACE_ITER, attach_btf_id=btf_id).fd
    info = bpf.user.alloc(4, struct.pack("<I", fd))
    # union bpf_attr.link_create: prog_fd, target_fd, attach_type, flags, iter_info, iter_info_len
    attr = struct.pack("<IIIIQI", prog, 0, AttachType.TRACE_ITER, 0, info, 4)
    link = bpf.raw(BpfCmd.LINK_CREATE, bytearray(attr), len(attr))
    name = bpf.user.alloc(32)
    # struct bpf_link_info: type, id, prog_id; target_name, target_name_len, map_id
    record = bpf.user.alloc(64, struct.pack("<IIIIQI", 0, 0, 0, 0, name, 32))
    attr = struct.pack("<IIQ", link, 64, record)
    assert bpf.raw(BpfCmd.OBJ_GET_INFO_BY_FD, bytearray(attr), len(attr)) == 0
    assert bpf.user.read_string(name, 32) == b"bpf_map_elem"
    assert struct.unpack_from("<II", bpf.user.read(record, 64), 24) == (13, bpf.obj_get_info_by_fd(fd).id)
