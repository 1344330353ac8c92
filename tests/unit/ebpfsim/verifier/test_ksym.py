"""Addresses of kernel symbols: what Linux 6.18, built without CONFIG_KALLSYMS_ALL, answers."""

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.isa.insn import Insn
from ebpfsim.progs.regtypes import MEM_PERCPU, MEM_RDONLY, PTR_TO_BTF_ID, PTR_TO_MEM
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.flags import BPF_PSEUDO_BTF_ID
from ebpfsim.verifier import ksym
from ebpfsim.verifier.env import Env, LoadAttr, Reject
from ebpfsim.verifier.state import reg_type_str


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


def env_with(id_: int, module: int = 0) -> Env:
    insns = (Insn(0x18, 1, BPF_PSEUDO_BTF_ID, 0, id_), Insn(0, imm=module))
    return Env(LoadAttr(ProgType.KPROBE, insns, log_level=2), NoMaps())


def test_a_function_is_memory_of_unknown_size() -> None:
    env = env_with(vmlinux().by_name("schedule", Kind.FUNC))
    ksym.check_pseudo_btf_id(env, 0)
    assert env.ksyms[0].type == PTR_TO_MEM | MEM_RDONLY
    assert env.insns[0].imm


def test_a_variable_has_no_address() -> None:
    env = env_with(vmlinux().by_name("runqueues", Kind.VAR))
    with pytest.raises(Reject) as refused:
        ksym.check_pseudo_btf_id(env, 0)
    assert refused.value.errno == Errno.ENOENT
    assert str(env.log) == "ldimm64 failed to find the address for kernel symbol 'runqueues'.\n"


def test_a_kernel_with_all_symbols_has_per_cpu_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ksym, "KALLSYMS_ALL", True)
    env = env_with(vmlinux().by_name("runqueues", Kind.VAR))
    ksym.check_pseudo_btf_id(env, 0)
    assert env.ksyms[0].type == PTR_TO_BTF_ID | MEM_PERCPU
    assert reg_type_str(env.ksyms[0].type) == "percpu_ptr_"


@pytest.mark.parametrize(
    ("id_", "module", "errno", "text"),
    [
        (0, 0, Errno.EINVAL, "pseudo btf_id 0 in ldimm64 isn't KIND_VAR or KIND_FUNC\n"),
        (99_999_999, 0, Errno.ENOENT, "ldimm64 insn specifies invalid btf_id 99999999.\n"),
        (1, 3, Errno.EINVAL, "invalid module BTF object FD specified.\n"),
    ],
)
def test_refusals(id_: int, module: int, errno: Errno, text: str) -> None:
    env = env_with(id_, module)
    with pytest.raises(Reject) as refused:
        ksym.check_pseudo_btf_id(env, 0)
    assert refused.value.errno == errno
    assert str(env.log) == text
