"""Flags that are enumerators in C have the values of the bundled BTF of Linux 6.18."""

import ebpfsim.uapi.flags as flags
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux

# macros, which BTF does not know; values from include/uapi/linux/bpf.h and if_link.h, include/linux/filter.h and bpf.h
MACROS = {
    "BPF_PSEUDO_MAP_FD": 1,
    "BPF_PSEUDO_MAP_VALUE": 2,
    "BPF_PSEUDO_BTF_ID": 3,
    "BPF_PSEUDO_FUNC": 4,
    "BPF_PSEUDO_MAP_IDX": 5,
    "BPF_PSEUDO_MAP_IDX_VALUE": 6,
    "BPF_PSEUDO_CALL": 1,
    "BPF_PSEUDO_KFUNC_CALL": 2,
    "BPF_F_STRICT_ALIGNMENT": 1,
    "BPF_F_XDP_HAS_FRAGS": 1 << 5,
    "BPF_F_ALLOW_MULTI": 1 << 1,
    "BPF_F_REPLACE": 1 << 2,
    "XDP_FLAGS_UPDATE_IF_NOEXIST": 1,
    "XDP_FLAGS_SKB_MODE": 2,
    "XDP_FLAGS_DRV_MODE": 4,
    "XDP_FLAGS_HW_MODE": 8,
    "XDP_FLAGS_REPLACE": 16,
    "BPF_OBJ_NAME_LEN": 16,
    "MAX_BPF_STACK": 512,
    "MAX_TAIL_CALL_CNT": 33,
    "BPF_MAX_LOOPS": 8 << 20,
}


def test_flags_are_the_kernel_s() -> None:
    btf = vmlinux()
    kernel: dict[str, int] = {}
    for type_id in range(1, btf.nr_types):
        if btf.kind(type_id) in (Kind.ENUM, Kind.ENUM64):
            for row in btf.type(type_id).values:  # type: ignore[attr-defined]
                kernel.setdefault(row.name, row.value)
    ours = {name: value for name, value in vars(flags).items() if name.isupper() and isinstance(value, int)}
    known = {name: value for name, value in ours.items() if name in kernel}
    assert len(known) > 30
    assert {name: value % 2**32 for name, value in known.items()} == {name: kernel[name] % 2**32 for name in known}
    assert {name: ours[name] for name in MACROS} == MACROS
