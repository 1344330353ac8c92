"""Times of neighbours in ticks."""

from netstack.neigh_view import NeighView, jiffies


def test_ticks_begin_five_minutes_before_they_wrap() -> None:
    # INITIAL_JIFFIES of include/linux/jiffies.h, 250 a second
    assert jiffies(0) == (1 << 32) - 300 * 250
    assert jiffies(10**9) - jiffies(0) == 250


def test_a_table_has_its_family(lab) -> None:
    mem = lab.pair()[0].kernel.mem
    from ebpfsim.btf.view import place

    address = NeighView.table(mem, 10, 16)
    assert mem.load(address + place("neigh_table", "family")[0], 4) == 10
    assert mem.load(address + place("neigh_table", "key_len")[0], 4) == 16
