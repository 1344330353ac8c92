"""The functions behind packet loads (``bpf_skb_load_helper_8_no_cache`` and its kin, net/core/filter.c, v6.18)."""

from typing import Any

import pytest

from ebpfsim.errors import NotModelled
from ebpfsim.helpers.skb_load import skb_load_helpers
from ebpfsim.isa.ld_abs import SKB_LOAD_HELPERS

PACKET = bytes(range(0x80, 0x90))
EFAULT = -14


@pytest.fixture
def load(machine: Any) -> Any:
    address = machine.mem.alloc(64)
    machine.mem.write(address, PACKET)
    helpers = skb_load_helpers(lambda run, ctx: (address, len(PACKET)))
    run = machine.run("r0 = 0; exit")
    return lambda size, offset: helpers[SKB_LOAD_HELPERS[size]](run, 0, offset & (1 << 64) - 1, 0, 0, 0)


def test_network_byte_order(load: Any) -> None:
    assert [load(size, 1) for size in (1, 2, 4)] == [0x81, 0x8182, 0x81828384]


def test_up_to_the_last_byte(load: Any) -> None:
    assert load(1, 15) == 0x8F
    assert load(4, 12) == 0x8C8D8E8F
    assert [load(1, 16), load(2, 15), load(4, 13), load(4, 0x7FFF_FFFF)] == [EFAULT] * 4


def test_offsets_are_32_bits(load: Any) -> None:
    assert load(1, 1 << 32 | 2) == 0x82


def test_negative_offsets_name_headers(load: Any) -> None:
    for offset in (-1, -0x100000, -0x200000):
        with pytest.raises(NotModelled, match="relative to a header"):
            load(1, offset)
    assert load(1, -0x200001) == EFAULT  # below SKF_LL_OFF there is nothing
