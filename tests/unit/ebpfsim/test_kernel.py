"""The composition root: what one kernel keeps from another, and that every part is wired."""

import pytest

from ebpfsim import KernelOops, Simulation
from ebpfsim.helpers.protos import PROTOS
from ebpfsim.uapi.bpf import MapType


def test_map_is_found_by_the_address_that_programs_hold_as_long_as_it_lives() -> None:
    host = Simulation().host("a")
    fd = host.bpf.map_create(MapType.ARRAY, 4, 8, 1)
    (found,) = host.kernel.maps
    assert host.kernel.map_at(found.address) is found
    host.bpf.close(fd)
    with pytest.raises(KernelOops, match="access to a map that does not exist"):
        host.kernel.map_at(found.address)


def test_hosts_share_the_ram_and_the_clock_but_no_objects() -> None:
    sim = Simulation()
    a, b = sim.host("a"), sim.host("b")
    a.bpf.map_create(MapType.ARRAY, 4, 8, 1)
    assert (len(a.kernel.maps), len(b.kernel.maps)) == (1, 0)
    assert a.kernel.mem is b.kernel.mem
    assert a.kernel.clock is b.kernel.clock


def test_every_implemented_helper_has_a_row_in_the_table() -> None:
    assert set(Simulation().host("a").kernel.helpers) <= set(PROTOS)
