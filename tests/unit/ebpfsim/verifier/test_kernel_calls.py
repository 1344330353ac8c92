"""Where the kernel's functions lie: the names are in its symbol table."""

from pathlib import Path

import pytest

from ebpfsim.verifier.kernel_calls import BPF_CALL_BASE, call_name, call_offset


def test_names_and_offsets_lead_to_each_other() -> None:
    assert call_name(call_offset("bpf_ktime_get_ns")) == "bpf_ktime_get_ns"
    assert (call_offset("no_such_function"), call_name(1)) == (0, "")
    # functions lie before and behind __bpf_call_base()
    assert call_offset("bpf_get_current_task") < 0 < call_offset("__htab_map_lookup_elem")


@pytest.mark.live
def test_functions_of_the_core_are_where_linux_has_them() -> None:
    # builds of the same version agree up to where the first one differs
    lines = [line.split() for line in Path("/proc/kallsyms").read_text().splitlines()]
    known = {name: int(address, 16) for address, _, name, *_ in lines}
    if known.get("__bpf_call_base") != BPF_CALL_BASE:
        pytest.skip("another build of the kernel")
    for name in ("bpf_ktime_get_ns", "htab_map_update_elem", "bpf_obj_new_impl", "bpf_trace_printk"):
        assert known[name] - BPF_CALL_BASE == call_offset(name)
