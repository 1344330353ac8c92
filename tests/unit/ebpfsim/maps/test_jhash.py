"""The hash of hash maps. Expected: lookup3 itself, and the order of keys that Linux has (test_hash)."""

import pytest

from ebpfsim.maps.jhash import jhash


# Bob Jenkins' lookup3.c, driver5(): hashlittle(text, length, 0); the kernel's starts from another constant only when
# the seed is 0: JHASH_INITVAL is lookup3's 0xdeadbeef
@pytest.mark.parametrize(
    ("key", "seed", "value"),
    [
        (b"", 0, 0xDEADBEEF),
        (b"", 0xDEADBEEF, 0xBD5B7DDE),
        (b"Four score and seven years ago", 0, 0x17770551),
        (b"Four score and seven years ago", 1, 0xCD628161),
    ],
)
def test_jhash_is_lookup3(key, seed, value) -> None:
    assert jhash(key, seed) == value


def test_lengths_around_the_block_of_12_bytes_differ() -> None:
    values = [jhash(bytes(length), 0) for length in range(40)]
    assert len(set(values)) == 40
