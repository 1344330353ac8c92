"""Calls of kernel functions: what Linux 6.18 answers where the function itself does not matter."""

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import VerifierError
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.uapi.bpf import ProgType

ZERO, EXIT = Insn(0xB7), Insn(0x95)


def call(name: str) -> Insn:
    return Insn(0x85, src=2, imm=vmlinux().by_name(name, kind=Kind.FUNC))


def load(*insns: Insn, license_: str = "GPL") -> str:
    bpf = Simulation(seed=1).host("h").bpf
    return bpf.prog_load(ProgType.XDP, encode(insns), license=license_, log_level=2).log


def refused(*insns: Insn, license_: str = "GPL") -> tuple[int, str]:
    with pytest.raises(VerifierError) as error:
        load(*insns, license_=license_)
    return error.value.errno, error.value.reason


def test_trap_that_is_reached() -> None:
    text = "unexpected __bpf_trap() due to uninitialized variable?"
    assert refused(call("__bpf_trap"), EXIT) == (Errno.EFAULT, text)


def test_trap_that_is_not_reached() -> None:
    trap = call("__bpf_trap")
    log = load(ZERO, Insn(0x55, off=1), EXIT, trap, EXIT)
    assert f"      3: .......... (85) call __bpf_trap#{trap.imm}\n" in log
    assert "processed 3 insns" in log


def test_flow_is_looked_at_first() -> None:
    assert refused(ZERO, EXIT, call("__bpf_trap"), EXIT) == (Errno.EINVAL, "unreachable insn 2")


def test_license() -> None:
    text = "cannot call kernel function from non-GPL compatible program"
    assert refused(call("__bpf_trap"), EXIT, license_="none") == (Errno.EINVAL, text)


@pytest.mark.parametrize("type_id", [1, 9_999_999])
def test_id_of_no_function(type_id: int) -> None:
    assert refused(Insn(0x85, src=2, imm=type_id), EXIT) == (
        Errno.EINVAL,
        f"kernel btf_id {type_id} is not a function",
    )


def test_function_for_other_program_types() -> None:
    text = "calling kernel function bpf_cpumask_create is not allowed"
    assert refused(call("bpf_cpumask_create"), ZERO, EXIT) == (Errno.EACCES, text)


def test_function_that_this_kernel_does_not_have() -> None:
    missing = Insn(0x85, src=2)
    text = "invalid kernel function call not eliminated in verifier pass"
    assert refused(ZERO, missing, EXIT) == (Errno.EINVAL, text)
    assert "processed 3 insns" in load(ZERO, Insn(0x55, off=1), EXIT, missing, EXIT)


def test_function_of_a_device() -> None:
    text = "metadata kfuncs require device-bound program"
    assert refused(call("bpf_xdp_metadata_rx_hash"), ZERO, EXIT) == (Errno.EINVAL, text)


def test_function_that_sleeps() -> None:
    text = "program must be sleepable to call sleepable kfunc bpf_copy_from_user_str"
    assert refused(call("bpf_copy_from_user_str"), ZERO, EXIT) == (Errno.EACCES, text)
