"""Tries of prefixes (kernel/bpf/lpm_trie.c, v6.18), asked of both kernels and compared with a list of prefixes."""

import struct
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsim.maps.lpm_trie import LpmTrieMap
from ebpfsim.maps.map import MapAttr
from ebpfsim.memory import Memory
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import MapType


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def prefix(text: str) -> bytes:
    address, _, length = text.partition("/")
    return u32(int(length)) + bytes(int(part) for part in address.split("."))


@pytest.fixture
def trie(bpf) -> int:
    return bpf.map_create(MapType.LPM_TRIE, 8, 4, 5, map_flags=f.BPF_F_NO_PREALLOC)


def fill(bpf, fd: int, *texts: str) -> None:
    for number, text in enumerate(texts):
        bpf.map_update_elem(fd, prefix(text), u32(number))


# the example at the top of lpm_trie.c
EXAMPLE = ("192.168.0.0/16", "192.168.0.0/24", "192.168.128.0/24", "192.168.1.0/24")


@pytest.mark.parametrize(
    ("address", "number"),
    [("192.168.1.77", 3), ("192.168.0.1", 1), ("192.168.2.1", 0), ("192.168.128.9", 2), ("192.168.129.9", 0)],
)
def test_the_longest_prefix_wins(bpf, trie, address, number) -> None:
    fill(bpf, trie, *EXAMPLE)
    assert bpf.map_lookup_elem(trie, prefix(f"{address}/32")) == u32(number)


def test_no_prefix(bpf, trie, refused) -> None:
    fill(bpf, trie, *EXAMPLE)
    assert refused(bpf.map_lookup_elem, trie, prefix("10.0.0.1/32")) == "ENOENT"
    # a key shorter than the stored prefix is not matched by it
    assert refused(bpf.map_lookup_elem, trie, prefix("192.168.0.0/8")) == "ENOENT"


def test_keys_come_in_post_order(bpf, trie, keys_of) -> None:
    fill(bpf, trie, *EXAMPLE)
    order = ("192.168.0.0/24", "192.168.1.0/24", "192.168.128.0/24", "192.168.0.0/16")
    assert keys_of(trie) == [prefix(text) for text in order]
    assert bpf.map_get_next_key(trie, prefix("10.0.0.0/8")) == prefix(order[0])


def test_full(bpf, trie, refused) -> None:
    fill(bpf, trie, *EXAMPLE, "0.0.0.0/0")
    assert refused(bpf.map_update_elem, trie, prefix("10.0.0.0/8"), u32(9)) == "ENOSPC"
    bpf.map_update_elem(trie, prefix("0.0.0.0/0"), u32(9))
    assert bpf.map_lookup_elem(trie, prefix("10.0.0.1/32")) == u32(9)


def test_flags(bpf, trie, refused) -> None:
    fill(bpf, trie, *EXAMPLE)
    assert refused(bpf.map_update_elem, trie, prefix(EXAMPLE[0]), u32(1), flags=f.BPF_NOEXIST) == "EEXIST"
    # the node that splits /24s exists in the tree, but not as an element
    assert refused(bpf.map_update_elem, trie, prefix("192.168.0.0/23"), u32(1), flags=f.BPF_EXIST) == "ENOENT"
    bpf.map_update_elem(trie, prefix("192.168.0.0/23"), u32(8), flags=f.BPF_NOEXIST)
    assert bpf.map_lookup_elem(trie, prefix("192.168.1.1/23")) == u32(8)


def test_host_bits_stay_in_the_key(bpf, trie, keys_of) -> None:
    bpf.map_update_elem(trie, prefix("10.1.2.3/8"), u32(1))
    assert keys_of(trie) == [prefix("10.1.2.3/8")]
    assert bpf.map_lookup_elem(trie, prefix("10.9.9.9/32")) == u32(1)


def test_lengths_past_the_key(bpf, trie, refused) -> None:
    key = u32(33) + bytes(4)
    assert refused(bpf.map_lookup_elem, trie, key) == "ENOENT"
    assert refused(bpf.map_update_elem, trie, key, u32(1)) == "EINVAL"
    assert refused(bpf.map_delete_elem, trie, key) == "EINVAL"


def test_batches(bpf, trie) -> None:
    keys = [prefix(text) for text in EXAMPLE]
    assert bpf.map_update_batch(trie, keys, [u32(number) for number in range(4)]) == 4
    batch = bpf.map_lookup_batch(trie, 8)
    assert (batch.keys, batch.done) == ([keys[1], keys[3], keys[2], keys[0]], True)
    assert bpf.map_delete_batch(trie, keys[:2]) == 2
    assert bpf.map_lookup_batch(trie, 8).keys == [keys[3], keys[2]]


def test_program(bpf, trie, run_asm) -> None:
    fill(bpf, trie, *EXAMPLE)
    code = f"""
        *(u32 *)(r10 - 8) = 32
        *(u32 *)(r10 - 4) = {0x0501A8C0}
        r2 = r10
        r2 += -8
        r1 = map_fd[{trie}] ll
        call bpf_map_lookup_elem
        if r0 != 0 goto +1
        exit
        r0 = *(u32 *)(r0 + 0)
        exit
    """
    assert run_asm(code) == 3


MEM = Memory(1 << 25)
KEYS = st.tuples(st.integers(0, 17), st.integers(0, 0xFFFF))


def key_of(entry: tuple[int, int]) -> bytes:
    return u32(entry[0]) + entry[1].to_bytes(2, "big")


def network(entry: tuple[int, int]) -> tuple[int, int]:
    length, data = entry
    return length, data >> (16 - length)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from("uuuulddn"), KEYS), max_size=120), st.integers(1, 12))
def test_behaves_as_a_list_of_prefixes(operations, entries) -> None:
    map_ = LpmTrieMap(MapAttr(MapType.LPM_TRIE, 6, 4, entries), MEM, 1)
    model: dict[tuple[int, int], tuple[bytes, bytes]] = {}
    for number, (operation, entry) in enumerate(operations):
        key, valid = key_of(entry), entry[0] <= 16
        if operation == "u":
            full = len(model) == entries and network(entry) not in model if valid else False
            assert map_.update_elem(key, u32(number), 0, 0) == (-22 if not valid else -28 if full else 0)
            if valid and not full:
                model[network(entry)] = (key, u32(number))
        elif operation == "d":
            gone = model.pop(network(entry), None) if valid else None
            assert map_.delete_elem(key) == (-22 if not valid else 0 if gone else -2)
        elif operation == "l":
            matches = [n for n in model if valid and n[0] <= entry[0] and n == network((n[0], entry[1]))]
            address = map_.lookup_elem(key, 0)
            assert (MEM.read(address, 4) if address else None) == (model[max(matches)][1] if matches else None)
        else:
            assert walk(map_) == [model[n][0] for n in sorted(model, key=post_order)]
        assert len(map_) == len(model)
    map_.put()


def walk(map_: LpmTrieMap) -> list[bytes]:
    keys: list[bytes] = []
    key = map_.get_next_key(None)
    while key is not None:
        keys.append(key)
        key = map_.get_next_key(key)
    return keys


def post_order(entry: tuple[int, int]) -> tuple[str, int]:
    # a prefix comes after all that it holds: its path, with a digit behind that sorts after 0 and 1
    length, data = entry
    return f"{data:0{length}b}2" if length else "2", length


def test_prefix_of_the_test_is_that_of_ipaddress() -> None:
    net = ip_network("10.32.0.0/11")
    assert prefix(str(net)) == u32(net.prefixlen) + net.network_address.packed
