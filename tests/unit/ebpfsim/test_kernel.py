"""The composition root: what one kernel keeps from another, and that every part is wired."""

import pytest

from ebpfsim import KernelOops, NotModelled, Simulation
from ebpfsim.helpers.protos import PROTOS
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType


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
    # internal functions have negative numbers; those that have none here are on nobody's list
    helpers = Simulation().host("a").kernel.helpers
    implemented = {number for number, helper in helpers.items() if "_not_modelled" not in helper.__qualname__}
    assert {number for number in implemented if number > 0} <= set(PROTOS)


def test_a_helper_that_is_not_modelled_stops_the_program_that_calls_it() -> None:
    bpf = Simulation().host("a").bpf
    program = (
        "r6 = r1; call bpf_get_smp_processor_id; if r0 != 0 goto out; r1 = r6; "
        "r2 = 0; r3 = r10; r3 += -24; r4 = 24; r5 = 0; call bpf_skb_get_xfrm_state; "
        "out: r0 = 1; exit"
    )
    fd = bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(program)), license="GPL", name="probe").fd
    with pytest.raises(NotModelled, match="helper bpf_skb_get_xfrm_state, which program 'probe' calls"):
        bpf.prog_test_run(fd, bytes(64))
