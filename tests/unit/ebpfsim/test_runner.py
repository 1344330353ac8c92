"""Programs as functions of a packet, against BPF_PROG_TEST_RUN of the same kernel."""

import random
from typing import Any

import pytest

from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.runner import Runner
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.flags import BPF_F_XDP_HAS_FRAGS
from netstack.bpf_net_context import bpf_net_ctx_set

# what is in front of the packet, its length, the time; the packet grows by what is written in front of it
PROGRAM = """
    r6 = r1; call bpf_xdp_get_buff_len; r7 = r0
    r1 = r6; r2 = -8; call bpf_xdp_adjust_head
    r2 = *(u32 *)(r6 + 0); r3 = *(u32 *)(r6 + 4); r5 = r2; r5 += 22; if r5 > r3 goto out
    r8 = *(u64 *)(r2 + 0); *(u64 *)(r2 + 0) = r7
    call bpf_ktime_get_ns; r0 += r8; r0 += r7; exit
    out: r0 = 1000; exit
"""


@pytest.fixture(params=["jit", "interp"])
def kernel(request: pytest.FixtureRequest, make_kernel: Any) -> Any:
    return make_kernel(engine=request.param)


def load(kernel: Any, text: str, prog_type: ProgType = ProgType.XDP) -> Any:
    slots, flags = encode(assemble(text)), BPF_F_XDP_HAS_FRAGS if prog_type is ProgType.XDP else 0
    fd = kernel.bpf.prog_load(prog_type, slots, license="GPL", name="test", prog_flags=flags).fd
    return fd, kernel.fds.lookup(fd)


def test_returns_what_test_runs_return(kernel: Any) -> None:
    fd, prog = load(kernel, PROGRAM)
    runner, rng = Runner(kernel, prog), random.Random(1)
    for _ in range(20):
        packet = rng.randbytes(rng.choice((14, 60, 1514, 3520, 3521, 9000)))
        expected = kernel.bpf.prog_test_run(fd, packet)
        assert runner(packet) == expected.retval
        assert runner.packet() == expected.data_out
        assert runner.counts().cost_ps // 1000 == expected.duration_ns
    assert kernel.cpus[0].elapsed_ps == 0


def test_counts_are_since_the_last_time(kernel: Any) -> None:
    _, prog = load(kernel, "r0 = 7; exit")
    runner, insn_ps = Runner(kernel, prog), kernel.costs.ps("insn")
    assert [runner(bytes(60)) for _ in range(3)] == [7, 7, 7]
    assert runner.counts() == (3, 6, 6 * insn_ps, 0)
    assert runner.counts() == (0, 0, 0, 0)


def test_a_redirect_goes_nowhere(kernel: Any) -> None:
    _, prog = load(kernel, "r1 = 1; r2 = 0; call bpf_redirect; exit")
    runner = Runner(kernel, prog)
    assert runner(bytes(60)) == 4
    # no context is left behind, and that of a softirq is not touched
    assert bpf_net_ctx_set(kernel.cpus[0])
    before = dict(kernel.cpus[0].scratch)
    assert runner(bytes(60)) == 4
    assert kernel.cpus[0].scratch == before


@pytest.mark.parametrize("size", [0, 13, 80_000])
def test_lengths_that_test_runs_refuse(kernel: Any, size: int) -> None:
    fd, prog = load(kernel, "r0 = 2; exit")
    with pytest.raises(KernelError) as expected:
        kernel.bpf.prog_test_run(fd, bytes(size))
    with pytest.raises(KernelError) as found:
        Runner(kernel, prog)(bytes(size))
    assert found.value.errno == expected.value.errno


def test_other_programs_have_none(kernel: Any) -> None:
    with pytest.raises(NotModelled, match="a runner for"):
        Runner(kernel, load(kernel, "r0 = 0; exit", ProgType.SOCKET_FILTER)[1])


def test_memory_comes_back(kernel: Any) -> None:
    _, prog = load(kernel, "r0 = 2; exit")
    before = kernel.mem.allocated_bytes
    runner = Runner(kernel, prog)
    runner(bytes(9000))
    runner.close()
    assert kernel.mem.allocated_bytes == before


def test_hosts_have_runners() -> None:
    import ebpfsim

    host = ebpfsim.Simulation().host("h")
    fd, _ = load(host.kernel, "r0 = 2; exit")
    assert host.runner(fd)(bytes(60)) == 2
