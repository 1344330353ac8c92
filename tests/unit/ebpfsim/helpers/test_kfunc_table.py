"""Kernel functions that only mark a section of the program."""

import pytest
from kfuncs import assemble_kfuncs

from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

SECTIONS = """
    kfunc bpf_rcu_read_lock; kfunc bpf_rcu_read_unlock
    kfunc bpf_preempt_disable; kfunc bpf_preempt_enable
    r1 = r10; r1 += -8
    kfunc bpf_local_irq_save
    r1 = r10; r1 += -8
    kfunc bpf_local_irq_restore
    r0 = 4
    exit
"""


@pytest.mark.parametrize("engine", ["interp", "jit"])
def test_sections_change_nothing(make_kernel, engine: str) -> None:
    kernel = make_kernel(engine=engine)
    prog = kernel.bpf.prog_load(ProgType.XDP, encode(assemble_kfuncs(SECTIONS, vmlinux())))
    assert kernel.bpf.prog_test_run(prog.fd, bytes(64)).retval == 4
