"""Base types of registers are below the flags, and no two flags share a bit."""

import ebpfsim.progs.regtypes as regtypes
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux

NUMBERS = {name: value for name, value in vars(regtypes).items() if name.isupper() and isinstance(value, int)}
FLAGS = {name: value for name, value in NUMBERS.items() if value > 0xFF and "MASK" not in name}


def test_flags_are_single_bits_of_their_own() -> None:
    assert all(value & value - 1 == 0 and not value & regtypes.BASE_TYPE_MASK for value in FLAGS.values())
    assert len(set(FLAGS.values())) == len(FLAGS) > 10


def test_names_are_the_kernel_s() -> None:
    btf = vmlinux()
    kernel = set()
    for enum in ("bpf_reg_type", "bpf_type_flag"):
        kernel |= {row.name for row in btf.type(btf.by_name(enum, Kind.ENUM)).values}  # type: ignore[attr-defined]
    ours = {name for name in NUMBERS if "MASK" not in name}
    assert ours <= kernel, ours - kernel
