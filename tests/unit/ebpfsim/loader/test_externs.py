"""Externs against a kernel: configuration values, kfuncs, kernel variables."""

from itertools import pairwise
from pathlib import Path

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import FUNC_GLOBAL, Func, FuncProto, Int, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.elf.reader import read_object
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.insn import decode
from ebpfsim.loader import KernelView, open_object
from ebpfsim.loader.externs import resolve_externs
from ebpfsim.loader.kernel import KCONFIG

DATA = Path(__file__).resolve().parents[3] / "data" / "bpf"


def test_configuration_values() -> None:
    obj = open_object(DATA / "kconfig.bpf.o")
    kconfig = {**KCONFIG, "CONFIG_HZ": "1000", "CONFIG_BPF_JIT": "m", "CONFIG_DEFAULT_HOSTNAME": '"(none)-and-more"'}
    image = resolve_externs(obj.spec, KernelView(version_code=0x061203, kconfig=kconfig)).kconfig
    found = {e.name: image[e.data_off : e.data_off + e.size] for e in obj.spec.externs}
    assert found == {
        "CONFIG_NO_SUCH_OPTION": bytes(8),
        "CONFIG_BPF_JIT": bytes([2, 0, 0, 0]),
        "CONFIG_HZ": (1000).to_bytes(4, "little"),
        "LINUX_KERNEL_VERSION": bytes([3, 0x12, 6, 0]),
        "CONFIG_BPF_SYSCALL": b"y",
        "CONFIG_X86_64": b"\1",
        "LINUX_HAS_BPF_COOKIE": b"\1",
        "LINUX_UNKNOWN_VIRTUAL": b"\0",
        "CONFIG_DEFAULT_HOSTNAME": b"(none)-\0",
    }


def test_configuration_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = read_object(DATA / "kconfig.bpf.o", "x.o")
    few = {"CONFIG_X86_64": "y", "CONFIG_HZ": "250"}
    with pytest.raises(KernelError, match=r"resolve extern 'CONFIG_BPF_JIT': .* \(ESRCH\): .* does not set it"):
        resolve_externs(spec, KernelView(kconfig=few))
    monkeypatch.setattr("ebpfsim.loader.externs.KCONFIG", few)
    with pytest.raises(NotModelled, match=r"kernel configuration CONFIG_BPF_JIT, which x\.o needs"):
        resolve_externs(spec, KernelView(kconfig=few))


def test_configuration_that_the_type_cannot_hold() -> None:
    spec = read_object(DATA / "kconfig.bpf.o", "x.o")
    for value, why in (("m", "its type cannot hold m"), ('"text"', 'its type cannot hold "text"')):
        with pytest.raises(KernelError, match=f"resolve extern 'CONFIG_X86_64': .*: {why}"):
            resolve_externs(spec, KernelView(kconfig={**KCONFIG, "CONFIG_X86_64": value}))
    with pytest.raises(KernelError, match=r"\(EINVAL\): 4294967296 does not fit into 4 bytes"):
        resolve_externs(spec, KernelView(kconfig={**KCONFIG, "CONFIG_HZ": str(1 << 32)}))


def test_kernel_functions_and_variables() -> None:
    obj = open_object(DATA / "ksyms.bpf.o")
    found = resolve_externs(obj.spec, KernelView())
    assert found.btf_ids["bpf_iter_num_new"] == vmlinux().by_name("bpf_iter_num_new", Kind.FUNC)
    assert found.btf_ids["bpf_rcu_read_lock___flavour"] == vmlinux().by_name("bpf_rcu_read_lock", Kind.FUNC)
    assert found.btf_ids["runqueues"] == vmlinux().by_name("runqueues", Kind.VAR)
    assert "bpf_no_such_kfunc" not in found.btf_ids
    assert found.addresses == {"bpf_prog_array_no_such": 0}


def test_addresses_come_from_the_kernel() -> None:
    address = 0xFFFFFFFF81234560
    obj = open_object(DATA / "ksyms.bpf.o", kernel=KernelView(symbol={"bpf_prog_array_no_such": address}.get))
    insns = decode(obj.relocate("iterate"))
    loads = [(low.imm & 0xFFFFFFFF) | (high.imm & 0xFFFFFFFF) << 32 for low, high in pairwise(insns)]
    assert address in loads


def test_missing_weak_functions_are_poisoned() -> None:
    # POISON_CALL_KFUNC_BASE + index among the externs, libbpf.c
    obj = open_object(DATA / "ksyms.bpf.o")
    idx = [extern.name for extern in obj.spec.externs].index("bpf_no_such_kfunc")
    assert 2002000000 + idx in [insn.imm for insn in decode(obj.relocate("iterate")) if insn.code == 0x85]


def test_functions_that_the_kernel_does_not_have() -> None:
    empty = Btf(encode_types([Int("int", 4, 32)]))
    spec = read_object(DATA / "ksyms.bpf.o", "x.o")
    with pytest.raises(KernelError) as missing:
        resolve_externs(spec, KernelView(btf=lambda: empty))
    assert str(missing.value) == (
        "x.o: resolve extern 'bpf_iter_num_destroy': Invalid argument (EINVAL): "
        "the kernel's BTF has no function of that name"
    )
    other = Btf(encode_types([FuncProto("", 0, ()), Func("bpf_iter_num_destroy", 1, FUNC_GLOBAL)]))
    with pytest.raises(KernelError, match="the kernel has it with an incompatible type"):
        resolve_externs(spec, KernelView(btf=lambda: other))
