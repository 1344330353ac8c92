"""Two kernels behind one interface: the simulated one and, where bpf(2) is allowed, the one of this machine.

A test that takes ``bpf`` runs against both. What it expects is what Linux 6.18 does.
"""

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ebpfsim.live import Bpf as LiveBpf
    from ebpfsim.syscall import Bpf


class PlainKernel:
    """A kernel of two CPUs with maps, programs and a loopback device, and a verifier that only looks up maps."""

    def __init__(self, **config: Any) -> None:
        from ebpfsim.clock import Clock
        from ebpfsim.config import KernelConfig
        from ebpfsim.costs import load_profile
        from ebpfsim.cpu import Cpu
        from ebpfsim.helpers import loop, misc, time, trace
        from ebpfsim.helpers import map as map_helpers
        from ebpfsim.helpers import ringbuf as ringbuf_helpers
        from ebpfsim.memory import Memory
        from ebpfsim.objects import FdTable, IdTable
        from ebpfsim.recorder import Recorder
        from ebpfsim.rng import Rng
        from ebpfsim.syscall import Bpf

        self.name = "plain"
        self.config = KernelConfig(**{"cpus": 2} | config)
        self.mem = Memory()
        self.clock = Clock()
        self.rng = Rng(1)
        self.costs = load_profile(self.config.costs)
        self.cpus = [Cpu(number, self.clock, self.mem) for number in range(self.config.cpus)]
        self.recorder = Recorder()
        families = (loop, map_helpers, misc, ringbuf_helpers, time, trace)
        self.helpers = {number: helper for family in families for number, helper in family.HELPERS.items()}
        self.progs: Any = IdTable()
        self.maps: Any = IdTable()
        self.links: Any = IdTable()
        self.btfs: Any = IdTable()
        self.fds = FdTable()
        self.link_create: dict[Any, Any] = {}
        self.devices: dict[int, Any] = {}
        self.add_device(1, "lo")
        self.bpf = Bpf(self)

    def add_device(self, ifindex: int, name: str) -> None:
        from netstack.xdp_buff import NetDeviceStruct, XdpRxqInfo

        device = NetDeviceStruct(self.mem, ifindex, name, 1500)
        rxq = XdpRxqInfo(self.mem, device.address)
        self.devices[ifindex] = SimpleNamespace(
            ifindex=ifindex, name=name, xdp_rxq=lambda queue: rxq.address if queue == 0 else None
        )

    def device_by_ifindex(self, ifindex: int) -> Any:
        return self.devices.get(ifindex)

    def map_at(self, address: int) -> Any:
        return next(map_ for map_ in self.maps if map_.address == address)

    def trace_print(self, cpu: object, text: bytes) -> None:
        raise AssertionError(f"nothing prints here: {text!r}")

    def verify(self, attr: Any) -> Any:
        insns, maps = list(attr.insns), []
        for idx, insn in enumerate(insns):
            if insn.code != 0x18 or insn.src not in (1, 2):
                continue
            map_ = self.fds.lookup(insn.imm)
            if map_ not in maps:
                maps.append(map_)
            address = map_.address if insn.src == 1 else map_.direct_value_addr(insns[idx + 1].imm)
            low, high = (int.from_bytes(part, "little", signed=True) for part in _halves(address))
            insns[idx] = insn._replace(src=0, imm=low)
            insns[idx + 1] = insns[idx + 1]._replace(imm=high)
        stats = SimpleNamespace(insn_processed=len(insns))
        return SimpleNamespace(
            insns=tuple(insns), subprogs=(), maps=tuple(maps), log="", stats=stats, changes_pkt_data=False
        )

    def compile(self, prog: Any) -> Callable[..., int]:
        from ebpfsim.vm.interp import compile_prog

        return compile_prog(prog, self)


def _halves(address: int) -> tuple[bytes, bytes]:
    data = address.to_bytes(8, "little")
    return data[:4], data[4:]


@pytest.fixture
def kernel() -> PlainKernel:
    """A simulated kernel of two CPUs."""
    return PlainKernel()


@pytest.fixture
def make_kernel() -> type[PlainKernel]:
    """The class, for kernels with other settings."""
    return PlainKernel


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
    kernel: PlainKernel = request.getfixturevalue("kernel")
    return kernel.bpf


@pytest.fixture
def nr_cpus(request: pytest.FixtureRequest, bpf: object) -> int:
    """Number of possible CPUs of the kernel behind ``bpf``."""
    from ebpfsim.live.sys import possible_cpus

    return possible_cpus() if "live" in request.node.callspec.id else 2


class Refused:
    """Ask and return the errno's name."""

    def __call__(self, call: Callable[..., object], *args: Any, **kwargs: Any) -> str:
        from ebpfsim.errors import KernelError

        with pytest.raises(KernelError) as error:
            call(*args, **kwargs)
        return error.value.errno_name


@pytest.fixture
def refused() -> Refused:
    """Make a call that must be refused and return the errno's name."""
    return Refused()


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
