"""Two kernels behind one interface: the simulated one and, where bpf(2) is allowed, the one of this machine.

A test that takes ``bpf`` runs against both. What it expects is what Linux 6.18 does.
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ebpfsim.kernel import Kernel
    from ebpfsim.live import Bpf as LiveBpf
    from ebpfsim.syscall import Bpf


def make_kernel_of_two_cpus(**config: Any) -> "Kernel":
    from ebpfsim.clock import Clock
    from ebpfsim.config import KernelConfig
    from ebpfsim.kernel import Kernel
    from ebpfsim.memory import Memory
    from ebpfsim.recorder import Recorder
    from ebpfsim.rng import Rng

    return Kernel("host", KernelConfig(**{"cpus": 2} | config), Memory(), Clock(), Rng(1), Recorder(), 0)


@pytest.fixture
def kernel() -> "Kernel":
    """A simulated kernel of two CPUs."""
    return make_kernel_of_two_cpus()


@pytest.fixture(scope="session")
def make_kernel() -> "Callable[..., Kernel]":
    """Make simulated kernels with other settings."""
    return make_kernel_of_two_cpus


@pytest.fixture
def live_bpf() -> "Iterator[LiveBpf]":
    """bpf(2) of this machine, on its first CPU; what a test leaves open is closed after it."""
    from ebpfsim.live import Bpf

    before, cpus = _bpf_fds(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield Bpf()
    finally:
        os.sched_setaffinity(0, cpus)
        for fd in sorted(_bpf_fds() - before):
            os.close(fd)


def _bpf_fds() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if "bpf" in target or target.startswith("anon_inode:btf"):
            found.add(int(name))
    return found


@pytest.fixture(params=["simulated", pytest.param("live", marks=pytest.mark.live)])
def bpf(request: pytest.FixtureRequest) -> "Bpf | LiveBpf":
    """bpf(2), of the simulated kernel and of the live one in turn."""
    if request.param == "live":
        live: LiveBpf = request.getfixturevalue("live_bpf")
        return live
    kernel: Kernel = request.getfixturevalue("kernel")
    return kernel.bpf


@pytest.fixture
def nr_cpus(request: pytest.FixtureRequest, bpf: object) -> int:
    """Number of possible CPUs of the kernel behind ``bpf``."""
    from ebpfsim.live.sys import possible_cpus

    return possible_cpus() if "live" in request.node.callspec.id else 2


@pytest.fixture(scope="session")
def refused() -> Callable[..., str]:
    """Make a call that must be refused and return the errno's name."""
    from ebpfsim.errors import KernelError

    def ask(call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
        with pytest.raises(KernelError) as error:
            call(*args, **kwargs)
        return error.value.errno_name

    return ask


@pytest.fixture
def keys_of(bpf: "Bpf | LiveBpf") -> Callable[[int], list[bytes]]:
    """Return the keys of a map in the order in which the kernel gives them."""
    from ebpfsim.errors import KernelError

    def walk(fd: int) -> list[bytes]:
        found: list[bytes] = []
        key: bytes | None = None
        while len(found) < 10_000:
            try:
                key = bpf.map_get_next_key(fd, key)
            except KernelError as error:
                if error.errno_name != "ENOENT":
                    raise
                return found
            found.append(key)
        raise AssertionError("keys without end")

    return walk


class Runner:
    """Load an XDP program given as assembly and run it once on a packet of 64 zero bytes; return what it returned."""

    def __init__(self, bpf: "Bpf | LiveBpf") -> None:
        self.bpf = bpf

    def __call__(self, code: str, data: bytes = bytes(64), *, repeat: int = 1) -> int:
        from ebpfsim.isa.asm import assemble
        from ebpfsim.isa.insn import encode
        from ebpfsim.uapi.bpf import ProgType

        loaded = self.bpf.prog_load(ProgType.XDP, encode(assemble(code)), name="test")
        try:
            return self.bpf.prog_test_run(loaded.fd, data, repeat=repeat).retval
        finally:
            self.bpf.close(loaded.fd)


@pytest.fixture
def run_asm(bpf: "Bpf | LiveBpf") -> Runner:
    """Run assembly on the kernel behind ``bpf``."""
    return Runner(bpf)
