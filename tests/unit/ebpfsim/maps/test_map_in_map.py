"""Maps of maps (kernel/bpf/map_in_map.c, arraymap.c, hashtab.c, v6.18), asked of both kernels."""

import struct

import pytest

from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType, ProgType

T = MapType
OUTER = [T.ARRAY_OF_MAPS, T.HASH_OF_MAPS]


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


@pytest.fixture
def inner(bpf) -> int:
    return bpf.map_create(T.ARRAY, 4, 8, 3)


@pytest.fixture(params=OUTER, ids=lambda t: t.lower)
def outer(bpf, inner, request) -> int:
    return bpf.map_create(request.param, 4, 4, 2, inner_map_fd=inner)


def test_user_space_stores_a_descriptor_and_reads_an_id(bpf, outer, inner, refused) -> None:
    bpf.map_update_elem(outer, u32(1), u32(inner))
    assert bpf.map_lookup_elem(outer, u32(1)) == u32(bpf.obj_get_info_by_fd(inner).id)
    bpf.map_delete_elem(outer, u32(1))
    assert refused(bpf.map_lookup_elem, outer, u32(1)) == "ENOENT"
    assert refused(bpf.map_delete_elem, outer, u32(1)) == "ENOENT"


@pytest.mark.parametrize(
    ("template", "other", "fits"),
    [
        ((T.ARRAY, 4, 8, 3, 0), (T.ARRAY, 4, 8, 3, 0), True),
        ((T.ARRAY, 4, 8, 3, 0), (T.ARRAY, 4, 8, 4, 0), False),
        ((T.ARRAY, 4, 8, 3, 0), (T.ARRAY, 4, 4, 3, 0), False),
        ((T.ARRAY, 4, 8, 3, 0), (T.PERCPU_ARRAY, 4, 8, 3, 0), False),
        ((T.ARRAY, 4, 8, 3, 0), (T.ARRAY, 4, 8, 3, f.BPF_F_RDONLY_PROG), False),
        ((T.ARRAY, 4, 8, 3, 0), (T.ARRAY, 4, 8, 3, f.BPF_F_RDONLY), True),
        ((T.ARRAY, 4, 8, 3, f.BPF_F_INNER_MAP), (T.ARRAY, 4, 8, 4, f.BPF_F_INNER_MAP), True),
        ((T.ARRAY, 4, 8, 3, f.BPF_F_INNER_MAP), (T.ARRAY, 4, 8, 4, 0), False),
        ((T.HASH, 4, 8, 3, 0), (T.HASH, 4, 8, 400, 0), True),
        ((T.HASH, 4, 8, 3, 0), (T.HASH, 8, 8, 3, 0), False),
        ((T.HASH, 4, 8, 3, 0), (T.HASH, 4, 8, 3, f.BPF_F_NO_PREALLOC), False),
        ((T.PERCPU_ARRAY, 4, 8, 3, 0), (T.PERCPU_ARRAY, 4, 8, 9, 0), True),
        ((T.RINGBUF, 0, 0, 4096, 0), (T.RINGBUF, 0, 0, 8192, 0), True),
        ((T.LRU_HASH, 4, 8, 4, 0), (T.LRU_HASH, 4, 8, 8, 0), True),
    ],
)
@pytest.mark.parametrize("outer_type", OUTER, ids=lambda t: t.lower)
def test_inner_maps_match_the_template(bpf, refused, outer_type, template, other, fits) -> None:
    fds = [bpf.map_create(kind, *sizes, map_flags=flags) for kind, *sizes, flags in (template, other)]
    outer = bpf.map_create(outer_type, 4, 4, 2, inner_map_fd=fds[0])
    if fits:
        bpf.map_update_elem(outer, u32(0), u32(fds[1]))
    else:
        assert refused(bpf.map_update_elem, outer, u32(0), u32(fds[1])) == "EINVAL"


def test_descriptors(bpf, outer, refused) -> None:
    prog = bpf.prog_load(ProgType.XDP, bytes.fromhex("b7000000020000009500000000000000")).fd
    assert refused(bpf.map_update_elem, outer, u32(0), u32(987)) == "EBADF"
    assert refused(bpf.map_update_elem, outer, u32(0), u32(prog)) == "EINVAL"


@pytest.mark.parametrize("outer_type", OUTER, ids=lambda t: t.lower)
def test_templates_refused(bpf, inner, refused, outer_type) -> None:
    nested = bpf.map_create(T.ARRAY_OF_MAPS, 4, 4, 1, inner_map_fd=inner)
    progs = bpf.map_create(T.PROG_ARRAY, 4, 4, 1)
    assert refused(bpf.map_create, outer_type, 4, 4, 1, inner_map_fd=nested) == "EINVAL"
    assert refused(bpf.map_create, outer_type, 4, 4, 1, inner_map_fd=progs) == "ENOTSUPP"
    assert refused(bpf.map_create, outer_type, 4, 4, 1, inner_map_fd=987) == "EBADF"


def test_the_template_may_go(bpf, outer, inner) -> None:
    bpf.close(inner)
    again = bpf.map_create(T.ARRAY, 4, 8, 3)
    bpf.map_update_elem(outer, u32(0), u32(again))


def test_inner_map_lives_as_long_as_its_place(kernel, refused) -> None:
    bpf = kernel.bpf
    for kind in OUTER:
        inner = bpf.map_create(T.ARRAY, 4, 8, 3)
        outer = bpf.map_create(kind, 4, 4, 2, inner_map_fd=inner)
        inner_id = bpf.obj_get_info_by_fd(inner).id
        bpf.map_update_elem(outer, u32(0), u32(inner))
        bpf.map_update_elem(outer, u32(0), u32(inner))
        bpf.close(inner)
        bpf.close(bpf.map_get_fd_by_id(inner_id))
        bpf.close(outer)
        assert refused(bpf.map_get_fd_by_id, inner_id) == "ENOENT"
    assert len(kernel.maps) == 0


ADD = """
    *(u32 *)(r10 - 4) = {slot}
    r2 = r10
    r2 += -4
    r1 = map_fd[{outer}] ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    *(u32 *)(r10 - 4) = 2
    r2 = r10
    r2 += -4
    r1 = r0
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = *(u64 *)(r0 + 0)
    r1 += 5
    *(u64 *)(r0 + 0) = r1
    r0 = 1
    exit
    out: r0 = 0
    exit
"""


def test_program_reaches_through(bpf, outer, inner, run_asm) -> None:
    bpf.map_update_elem(inner, u32(2), u64(10))
    bpf.map_update_elem(outer, u32(1), u32(inner))
    assert run_asm(ADD.format(slot=1, outer=outer)) == 1
    assert run_asm(ADD.format(slot=0, outer=outer)) == 0
    assert bpf.map_lookup_elem(inner, u32(2)) == u64(15)


def test_replacing_an_inner_map(bpf, outer, inner, run_asm) -> None:
    other = bpf.map_create(T.ARRAY, 4, 8, 3)
    for fd in (inner, other):
        bpf.map_update_elem(outer, u32(1), u32(fd))
        run_asm(ADD.format(slot=1, outer=outer))
    assert [bpf.map_lookup_elem(fd, u32(2)) for fd in (inner, other)] == [u64(5), u64(5)]


def test_batches(bpf, outer, inner) -> None:
    inner_id = u32(bpf.obj_get_info_by_fd(inner).id)
    assert bpf.map_update_batch(outer, [u32(0), u32(1)], [u32(inner)] * 2) == 2
    batch = bpf.map_lookup_batch(outer, 10)
    assert (sorted(batch.keys), batch.values, batch.done) == ([u32(0), u32(1)], [inner_id] * 2, True)
