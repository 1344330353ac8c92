"""Debug mode looks at the memory arguments of helpers: sizes are those of their prototypes."""

from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.helpers.checked import checked_helpers
from ebpfsim.helpers.protos import PROTOS
from ebpfsim.isa.asm import assemble
from ebpfsim.maps.hash import HashMap
from ebpfsim.maps.map import MapAttr
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.helper_ids import HELPER_IDS


@pytest.fixture
def debugged(make_machine: Any) -> Any:
    from ebpfsim.helpers import csum
    from ebpfsim.helpers import map as map_helpers

    machine = make_machine(debug=True)
    machine.helpers = checked_helpers(machine.helpers | map_helpers.HELPERS | csum.HELPERS)
    return machine


def _update(machine: Any, key_at: int, value_at: int) -> int:
    made = HashMap(MapAttr(MapType.HASH, 8, 16, 4, map_name="flows"), machine.mem, 1)
    machine.maps[made.address] = made
    result: int = machine.run(
        f"r1 = {made.address:#x} ll; r2 = r10; r2 += {key_at}; r3 = r10; r3 += {value_at}; r4 = 0;"
        "call bpf_map_update_elem; exit"
    ).r0
    return result


def test_keys_and_values_of_maps(debugged: Any) -> None:
    assert _update(debugged, -8, -24) == 0
    assert _update(debugged, -512, -16) == 0
    with pytest.raises(KernelOops) as caught:
        _update(debugged, -4, -24)
    assert caught.value.reason == "stack-out-of-bounds: read of 8 bytes by bpf_map_update_elem(), argument 2"
    assert caught.value.about.startswith("4 bytes over the end of the stack frame (512 bytes at")
    assert caught.value.insn_idx == 7
    with pytest.raises(KernelOops, match=r"read of 16 bytes by bpf_map_update_elem\(\), argument 3"):
        _update(debugged, -8, -8)


def test_keys_of_maps_that_are_not_the_first_argument(debugged: Any) -> None:
    # (context, map, key, flags) of include/uapi/linux/bpf.h
    number = HELPER_IDS["bpf_sk_select_reuseport"]
    debugged.helpers = checked_helpers({number: lambda *_: 5})
    made = HashMap(MapAttr(MapType.HASH, 8, 16, 4, map_name="flows"), debugged.mem, 1)
    debugged.maps[made.address] = made
    code = "r1 = r10; r1 += -8; r2 = {} ll; r3 = r10; r3 += {}; r4 = 0; call bpf_sk_select_reuseport; exit"
    assert debugged.run(code.format(made.address, -8)).r0 == 5
    with pytest.raises(KernelOops, match=r"read of 8 bytes by bpf_sk_select_reuseport\(\), argument 3"):
        debugged.run(code.format(made.address, -4))


@pytest.mark.parametrize(
    ("size", "problem"),
    [("16", ""), ("0", ""), ("17", "read of 17 bytes by bpf_csum_diff(), argument 1")],
)
def test_memory_with_its_size(debugged: Any, size: str, problem: str) -> None:
    code = f"r1 = r10; r1 += -16; r2 = {size}; r3 = 0; r4 = 0; r5 = 0; call bpf_csum_diff; r0 = 0; exit"
    if not problem:
        debugged.run(code)
        return
    with pytest.raises(KernelOops) as caught:
        debugged.run(code)
    assert problem in caught.value.reason


def test_probe_reads_come_from_anywhere(debugged: Any) -> None:
    assert debugged.run("r1 = r10; r1 += -8; r2 = 8; r3 = 64; call bpf_probe_read_kernel; exit").r0 == (1 << 64) - 34
    with pytest.raises(KernelOops, match="write of 16 bytes by bpf_probe_read_kernel"):
        debugged.run("r1 = r10; r1 += -8; r2 = 16; r3 = 64; call bpf_probe_read_kernel; exit")


def test_strings_end_in_their_object(debugged: Any) -> None:
    text = debugged.mem.alloc(4)
    code = f"r1 = r10; r1 += -16; r2 = 16; r3 = {text:#x} ll; r4 = 0; r5 = 0; call {HELPER_IDS['bpf_snprintf']}; exit"
    debugged.mem.write(text, b"abc\0")
    assert debugged.run(assemble(code)).r0 == 4
    debugged.mem.write(text, b"abcd")
    with pytest.raises(KernelOops, match="slab-out-of-bounds: read of 5 bytes by bpf_snprintf"):
        debugged.run(assemble(code))


def test_helpers_without_memory_stay_as_they_are(machine: Any) -> None:
    helpers = checked_helpers(machine.helpers)
    same = {number for number, helper in machine.helpers.items() if helpers[number] is helper}
    assert HELPER_IDS["bpf_ktime_get_ns"] in same
    assert HELPER_IDS["bpf_trace_printk"] not in same
    assert set(helpers) == set(machine.helpers) <= set(PROTOS)
