"""What the programs of an array come to (bpf_prog_run_array_cg, v6.18); tests of the hooks replay Linux' answers."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errnos import Errno
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType
from hooks.cgroup_run import RunCtx, is_errno

KIND = AttachType.CGROUP_DEVICE
ALLOW, DENY = "r0 = 1; exit", "r0 = 0; exit"
ERRNO, FORGIVE = "r1 = -13; call bpf_set_retval; r0 = 1; exit", "r1 = 0; call bpf_set_retval; r0 = 1; exit"


def run(*codes: str, retval: int = 0) -> int:
    host = Simulation().host("h")
    for code in codes:
        prog = host.bpf.prog_load(ProgType.CGROUP_DEVICE, encode(assemble(code)), expected_attach_type=KIND).fd
        host.attach_cgroup(prog, "/t", "device")
    kernel = host.kernel
    items, ctx = kernel.cgroups.mkdir("/t").effective[KIND], kernel.mem.alloc(12)
    return kernel.cgroup_runner.run_with(RunCtx(retval), items, ctx, kernel.cpus[0], KIND)[0]


@pytest.mark.parametrize(
    ("codes", "errno"),
    [
        ([ALLOW], 0),
        ([ALLOW, DENY], -Errno.EPERM),
        ([ERRNO, ALLOW], -Errno.EACCES),
        # one that refuses leaves an errno alone that is there
        ([ERRNO, DENY], -Errno.EACCES),
        # all run, and one may take back what another said
        ([DENY, FORGIVE], 0),
    ],
)
def test_results(codes: list[str], errno: int) -> None:
    assert run(*codes) == errno


def test_what_the_kernel_itself_would_return_is_given() -> None:
    assert run(ALLOW, retval=-Errno.ENOPROTOOPT) == -Errno.ENOPROTOOPT


@pytest.mark.parametrize(("value", "expected"), [(0, False), (-1, True), (-4095, True), (-4096, False), (1, False)])
def test_errnos(value: int, expected: bool) -> None:
    assert is_errno(value) == expected
