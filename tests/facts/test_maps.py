"""Facts about maps, observed on Linux 6.18 and asked of both kernels. Each test names its fact."""

import struct

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.maps.map import BatchError
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType, ProgType

T = MapType
PAGE = 4096


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


@pytest.fixture
def stopped(refused):
    """Return the errno and the count of a batch that stops early."""

    def stopped(call, *args) -> tuple[str, int]:
        with pytest.raises(BatchError) as error:
            call(*args)
        return error.value.errno_name, error.value.count

    return stopped


def test_array_lookup_past_the_end_enoent_update_e2big_delete_einval_noexist_eexist(bpf, refused) -> None:
    fd = bpf.map_create(T.ARRAY, 4, 4, 2)
    assert refused(bpf.map_lookup_elem, fd, u32(2)) == "ENOENT"
    assert refused(bpf.map_update_elem, fd, u32(2), u32(0)) == "E2BIG"
    assert refused(bpf.map_delete_elem, fd, u32(0)) == "EINVAL"
    assert refused(bpf.map_update_elem, fd, u32(0), u32(0), flags=f.BPF_NOEXIST) == "EEXIST"


def test_full_hash_e2big_but_replacing_works(bpf, refused) -> None:
    fd = bpf.map_create(T.HASH, 4, 4, 2)
    for key in (1, 2):
        bpf.map_update_elem(fd, u32(key), u32(0))
    assert refused(bpf.map_update_elem, fd, u32(3), u32(0)) == "E2BIG"
    bpf.map_update_elem(fd, u32(1), u32(9))


def test_batch_lookup_16_of_5_gives_5_and_the_end(bpf) -> None:
    fd = bpf.map_create(T.HASH, 4, 4, 16)
    for key in range(5):
        bpf.map_update_elem(fd, u32(key), u32(key))
    batch = bpf.map_lookup_batch(fd, 16)
    # done is ENOENT of the system call
    assert (len(batch.keys), batch.done) == (5, True)


def test_batch_delete_with_a_missing_third_enoent_with_count_2(bpf, stopped) -> None:
    fd = bpf.map_create(T.HASH, 4, 4, 16)
    for key in range(5):
        bpf.map_update_elem(fd, u32(key), u32(key))
    assert stopped(bpf.map_delete_batch, fd, [u32(key) for key in (0, 1, 99, 3)]) == ("ENOENT", 2)


def test_batch_update_12_into_8_e2big_with_count_8(bpf, stopped) -> None:
    fd = bpf.map_create(T.HASH, 4, 4, 8)
    elements = [u32(key) for key in range(12)]
    assert stopped(bpf.map_update_batch, fd, elements, elements) == ("E2BIG", 8)


def test_lru_of_4_the_oldest_goes(bpf, refused) -> None:
    fd = bpf.map_create(T.LRU_HASH, 4, 4, 4)
    for key in range(5):
        bpf.map_update_elem(fd, u32(key), u32(key))
    assert refused(bpf.map_lookup_elem, fd, u32(0)) == "ENOENT"
    assert bpf.map_lookup_elem(fd, u32(4)) == u32(4)


@pytest.mark.parametrize("kind", [T.QUEUE, T.STACK], ids=lambda kind: kind.lower)
def test_queue_and_stack_full_e2big_empty_enoent_and_no_keys_einval(bpf, refused, kind) -> None:
    fd = bpf.map_create(kind, 0, 4, 1)
    assert refused(bpf.map_lookup_elem, fd, None) == "ENOENT"
    bpf.map_update_elem(fd, None, u32(1))
    assert refused(bpf.map_update_elem, fd, None, u32(2)) == "E2BIG"
    assert refused(bpf.map_update_elem, fd, None, u32(2), flags=f.BPF_NOEXIST) == "EINVAL"
    assert refused(bpf.map_delete_elem, fd, None) == "EINVAL"
    assert refused(bpf.map_get_next_key, fd, None) == "EINVAL"
    assert refused(bpf.map_lookup_elem, fd, u32(0)) == "EINVAL"


def test_bloom_absent_enoent_delete_einval_next_eopnotsupp_map_extra_over_15_einval(bpf, refused) -> None:
    fd = bpf.map_create(T.BLOOM_FILTER, 0, 4, 10)
    assert refused(bpf.map_lookup_elem, fd, None, value=u32(3)) == "ENOENT"
    assert refused(bpf.map_delete_elem, fd, u32(3)) == "EINVAL"
    assert refused(bpf.map_get_next_key, fd, None) == "EOPNOTSUPP"
    assert refused(bpf.map_create, T.BLOOM_FILTER, 0, 4, 10, map_extra=16) == "EINVAL"


def test_lpm_without_no_prealloc_einval_key_size_5_to_260(bpf, refused) -> None:
    assert refused(bpf.map_create, T.LPM_TRIE, 8, 4, 2) == "EINVAL"
    for size, errno in ((4, "EINVAL"), (5, ""), (260, ""), (261, "EINVAL")):
        if errno:
            assert refused(bpf.map_create, T.LPM_TRIE, size, 4, 2, map_flags=f.BPF_F_NO_PREALLOC) == errno
        else:
            assert bpf.map_create(T.LPM_TRIE, size, 4, 2, map_flags=f.BPF_F_NO_PREALLOC) > 0


def test_lpm_prefixlen_past_the_key_lookup_enoent_update_einval_host_bits_stay(bpf, refused, keys_of) -> None:
    fd = bpf.map_create(T.LPM_TRIE, 8, 4, 2, map_flags=f.BPF_F_NO_PREALLOC)
    assert refused(bpf.map_lookup_elem, fd, u32(33, 0)) == "ENOENT"
    assert refused(bpf.map_update_elem, fd, u32(33, 0), u32(1)) == "EINVAL"
    bpf.map_update_elem(fd, u32(8, 0x0302010A), u32(1))
    assert keys_of(fd) == [u32(8, 0x0302010A)]


def test_map_in_map_other_max_entries_einval_unless_inner_map_flag(bpf, refused) -> None:
    for flags, errno in ((0, "EINVAL"), (f.BPF_F_INNER_MAP, "")):
        outer = bpf.map_create(T.ARRAY_OF_MAPS, 4, 4, 1, inner_map_fd=bpf.map_create(T.ARRAY, 4, 4, 1, map_flags=flags))
        other = u32(bpf.map_create(T.ARRAY, 4, 4, 2, map_flags=flags))
        if errno:
            assert refused(bpf.map_update_elem, outer, u32(0), other) == errno
        else:
            bpf.map_update_elem(outer, u32(0), other)


def test_map_in_map_inner_hash_may_differ_prog_array_524_nesting_einval_lookup_gives_the_id(bpf, refused) -> None:
    outer = bpf.map_create(T.HASH_OF_MAPS, 4, 4, 1, inner_map_fd=bpf.map_create(T.HASH, 4, 4, 1))
    inner = bpf.map_create(T.HASH, 4, 4, 99)
    bpf.map_update_elem(outer, u32(0), u32(inner))
    assert bpf.map_lookup_elem(outer, u32(0)) == u32(bpf.obj_get_info_by_fd(inner).id)
    progs = bpf.map_create(T.PROG_ARRAY, 4, 4, 1)
    assert refused(bpf.map_create, T.ARRAY_OF_MAPS, 4, 4, 1, inner_map_fd=progs) == "ENOTSUPP"
    assert refused(bpf.map_create, T.ARRAY_OF_MAPS, 4, 4, 1, inner_map_fd=outer) == "EINVAL"


def test_freeze_while_mapped_writable_ebusy_then_no_changes_eperm(bpf, refused) -> None:
    fd = bpf.map_create(T.ARRAY, 4, 8, 1, map_flags=f.BPF_F_MMAPABLE)
    view = bpf.map_mmap(fd, PAGE, writable=True)
    assert refused(bpf.map_freeze, fd) == "EBUSY"
    bpf.map_munmap(view)
    bpf.map_freeze(fd)
    assert refused(bpf.map_update_elem, fd, u32(0), bytes(8)) == "EPERM"
    assert refused(bpf.map_mmap, fd, PAGE, writable=True) == "EPERM"
    hashed = bpf.map_create(T.HASH, 4, 4, 1)
    bpf.map_freeze(hashed)
    assert refused(bpf.map_delete_elem, hashed, u32(0)) == "EPERM"


def test_mapping_rdonly_prog_writable_eacces_past_the_end_einval(bpf, refused) -> None:
    flags = f.BPF_F_MMAPABLE | f.BPF_F_RDONLY_PROG
    fd = bpf.map_create(T.ARRAY, 4, 8, 1, map_flags=flags)
    assert refused(bpf.map_mmap, fd, PAGE, writable=True) == "EACCES"
    assert refused(bpf.map_mmap, fd, 2 * PAGE, writable=False) == "EINVAL"


OUTPUT = """
    *(u64 *)(r10 - 512) = 1
    r1 = map_fd[{ring}] ll
    r2 = r10
    r2 += -512
    r3 = {size}
    r4 = 0
    call bpf_ringbuf_output
    exit
"""


@pytest.mark.parametrize(("size", "count"), [(8, 255), (512, 7)])
def test_ringbuf_of_4096_takes_255_records_of_8_bytes_or_7_of_512_then_eagain(bpf, size, count) -> None:
    ring = bpf.map_create(T.RINGBUF, 0, 0, PAGE)
    code = OUTPUT.format(ring=ring, size=size)
    # the whole record has to be written before
    fill = "".join(f"*(u64 *)(r10 - {off}) = 0; " for off in range(8, 512, 8)) if size > 8 else ""
    prog = bpf.prog_load(ProgType.XDP, encode(assemble(fill + code))).fd
    results = [bpf.prog_test_run(prog, bytes(64)).retval for _ in range(count + 1)]
    assert results == [0] * count + [-11 & 0xFFFF_FFFF]


def test_ringbuf_header_is_length_page_offset_3_discard_bit_30_busy_bit_31(bpf, run_asm) -> None:
    ring = bpf.map_create(T.RINGBUF, 0, 0, PAGE)
    view = bpf.map_mmap(ring, 4 * PAGE, writable=False)

    def reserve(end: str) -> str:
        then = f"r1 = r0; r2 = 0; call bpf_ringbuf_{end}"
        return f"r1 = map_fd[{ring}] ll; r2 = 20; r3 = 0; call bpf_ringbuf_reserve; if r0 == 0 goto +3; {then}; "

    run_asm(reserve("submit") + reserve("discard") + "r0 = 0; exit")
    data = bytes(view[2 * PAGE : 2 * PAGE + 64])
    assert struct.unpack_from("<II", data) == (20, 3)
    assert struct.unpack_from("<II", data, 32) == (20 | 1 << 30, 3)
    bpf.map_munmap(view)
    assert (f.BPF_RINGBUF_DISCARD_BIT, f.BPF_RINGBUF_BUSY_BIT) == (1 << 30, 1 << 31)


def test_ringbuf_consumer_page_mappable_read_write_producer_pages_only_read_elements_refused(bpf, refused) -> None:
    ring = bpf.map_create(T.RINGBUF, 0, 0, PAGE)
    bpf.map_munmap(bpf.map_mmap(ring, PAGE, writable=True))
    bpf.map_munmap(bpf.map_mmap(ring, 3 * PAGE, writable=False, offset=PAGE))
    assert refused(bpf.map_mmap, ring, PAGE, writable=True, offset=PAGE) == "EPERM"
    for call, args in ((bpf.map_lookup_elem, (u32(0),)), (bpf.map_delete_elem, (u32(0),))):
        assert refused(call, ring, *args) == "EINVAL"


def test_perf_array_empty_slot_enoent_index_past_the_end_e2big(bpf, run_asm) -> None:
    array = bpf.map_create(T.PERF_EVENT_ARRAY, 4, 4, 2)
    assert bpf.map_get_next_key(array, None) == u32(0)


def test_struct_ops_with_a_link_cannot_be_deleted_by_hand(bpf, refused) -> None:
    # the id of the type differs from kernel to kernel: tests/unit/ebpfsim/maps/test_struct_ops.py
    assert refused(bpf.map_create, T.STRUCT_OPS, 4, 256, 1) == "EINVAL"


def test_arena_needs_mmapable_mmap_past_its_size_e2big_second_mmap_elsewhere_einval(bpf, refused) -> None:
    assert refused(bpf.map_create, T.ARENA, 0, 0, 2) == "EINVAL"
    place = 0x2000_0000_0000
    fd = bpf.map_create(T.ARENA, 0, 0, 2, map_flags=f.BPF_F_MMAPABLE, map_extra=place)
    assert refused(bpf.map_mmap, fd, 3 * PAGE, writable=True, addr=place) == "E2BIG"
    view = bpf.map_mmap(fd, 2 * PAGE, writable=True, addr=place)
    assert refused(bpf.map_mmap, fd, 2 * PAGE, writable=True) == "EINVAL"
    bpf.map_munmap(view)


def test_cpumap_impossible_cpu_enodev_queue_over_16384_eoverflow_0_deletes_limit_e2big(bpf, refused, nr_cpus) -> None:
    fd = bpf.map_create(T.CPUMAP, 4, 4, 64)
    assert refused(bpf.map_update_elem, fd, u32(nr_cpus), u32(1)) == "ENODEV"
    assert refused(bpf.map_update_elem, fd, u32(0), u32(16385)) == "EOVERFLOW"
    bpf.map_update_elem(fd, u32(0), u32(1))
    bpf.map_update_elem(fd, u32(0), u32(0))
    assert refused(bpf.map_lookup_elem, fd, u32(0)) == "ENOENT"
    assert refused(bpf.map_create, T.CPUMAP, 4, 4, 257) == "E2BIG"


def test_prog_array_flags_einval_past_the_end_e2big_empty_delete_enoent_lookup_gives_the_id(bpf, refused) -> None:
    fd = bpf.map_create(T.PROG_ARRAY, 4, 4, 2)
    prog = bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit"))).fd
    assert refused(bpf.map_update_elem, fd, u32(0), u32(prog), flags=f.BPF_EXIST) == "EINVAL"
    assert refused(bpf.map_update_elem, fd, u32(2), u32(prog)) == "E2BIG"
    assert refused(bpf.map_delete_elem, fd, u32(0)) == "ENOENT"
    bpf.map_update_elem(fd, u32(0), u32(prog))
    assert bpf.map_lookup_elem(fd, u32(0)) == u32(bpf.obj_get_info_by_fd(prog).id)
