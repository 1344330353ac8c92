"""The same programs on both engines and on Linux, one after the other, and what differs.

Two simulated kernels are built alike, so that everything has the same address in both. What is compared of them:
R0, instructions, cost, tail calls, the CPU's clock, faults, and all of the simulated RAM: packets, stacks, maps. Of
Linux: what the verifier says, what the program returns, the packet, and what user space sees of the maps.
"""

import os
import random
from collections import Counter
from dataclasses import replace
from typing import Any

from verified_programs import MAPS, PROGS, VALUE_MAPS, Generator, Program, bind, btf, packet

from ebpfsim import Simulation
from ebpfsim.errors import KernelError, KernelOops, NotModelled
from ebpfsim.isa.insn import encode
from ebpfsim.isa.table import find, insn_len
from ebpfsim.jit.engine import execute
from ebpfsim.uapi.bpf import ProgType
from netstack.bpf_net_context import bpf_net_context
from netstack.xdp_buff import make_xdp_buff

__all__ = ["Difference", "SideBySide"]

LOOPBACK = 1
FIRST_BYTE = 1 << 24  # of what the allocator hands out
RUNS = 2  # of every program
MOST_ENTRIES = 64
# what per-CPU maps have for user space to see
CPUS = os.cpu_count() or 1
# a call in code that is never reached: Linux 6.18 loses the function and takes that for a bug of its own
LINUX_GIVES_UP = "verifier bug: No program to jit"


class Kernel:
    """A kernel, simulated or not, with the maps and BTF that programs need."""

    def __init__(self, bpf: Any) -> None:
        self.bpf = bpf
        self.fds = [
            bpf.map_create(spec.type, spec.key_size, spec.value_size, spec.max_entries, map_flags=spec.flags)
            for spec in MAPS
        ]
        self.btf_fd = bpf.btf_load(btf())
        self.progs: list[int] = []

    def load(self, program: Program) -> int:
        """Load a program and return its descriptor; KernelError when it is refused."""
        insns = encode(bind(program, self.fds))
        info = program.func_info
        fd: int = self.bpf.prog_load(ProgType.XDP, insns, prog_btf_fd=self.btf_fd, func_info=info).fd
        self.progs.append(fd)
        return fd

    def offer(self, fd: int, slot: int) -> None:
        """Let other programs go to this one by a tail call."""
        self.bpf.map_update_elem(self.fds[PROGS], slot.to_bytes(4, "little"), fd.to_bytes(4, "little"))

    def contents(self) -> list[Any]:
        """Return what user space sees of the maps, in their order."""
        found = []
        for number in VALUE_MAPS:
            batch = self.bpf.map_lookup_batch(self.fds[number], MOST_ENTRIES)
            found.append((MAPS[number].type, batch.keys, batch.values))
        return found

    def close(self) -> None:
        """Give all descriptors back."""
        for fd in (*self.progs, *self.fds, self.btf_fd):
            self.bpf.close(fd)


def _whole(xdp: Any) -> bytes:
    # as test runs give it
    whole: bytes = xdp.metadata() + xdp.frame()
    return whole


class Simulated(Kernel):
    """A simulated kernel."""

    def __init__(self, engine: str, cpus: int, cpu: int, *, debug: bool = False) -> None:
        self.cpu = cpu
        self.sim = Simulation(seed=1)
        if debug:
            self.sim.mem.track()
        self.host = self.sim.host("h", cpus=cpus, engine=engine, debug=debug)
        self.kernel = self.host.kernel
        device = self.kernel.device_by_ifindex(LOOPBACK)
        assert device is not None
        self.rxq = device.xdp_rxq(0)
        super().__init__(self.host.bpf)

    def run(self, fd: int, data: bytes) -> tuple[Any, ...]:
        """Run a program on a packet and return everything that came of it."""
        prog, cpu = self.kernel.fds.lookup(fd), self.kernel.cpus[self.cpu]
        xdp = make_xdp_buff(self.kernel.mem, data, self.rxq)
        before_ps = cpu.elapsed_ps
        try:
            with bpf_net_context(cpu):
                ran = execute(prog, xdp.address, cpu)
            out = ran.r0, ran.retval, ran.insns, ran.cost_ps, ran.tail_calls, _whole(xdp)
        except KernelOops as oops:
            out = str(oops), oops.registers, _whole(xdp)  # type: ignore[assignment]
        xdp.close()
        return *out, cpu.elapsed_ps - before_ps, cpu.stack_top

    def ram(self) -> bytes:
        """Return all memory that was ever used."""
        return bytes(self.sim.mem.buf[FIRST_BYTE : self.sim.mem._next_page])


class Difference(Exception):
    """Two kernels did not do the same."""


class SideBySide:
    """Programs from a seed on the interpreter, as machine code, and on Linux when ``live`` is its bpf(2).

    They run on the CPU of that number; a test run by Linux does so on the one that this process is on.
    """

    def __init__(self, seed: int, live: Any = None, *, cpu: int = 0, debug: bool = False) -> None:
        self.rng = random.Random(seed)
        self.generator = Generator(self.rng, live=live is not None)
        self.simulated = [Simulated(engine, CPUS, cpu, debug=debug) for engine in ("interp", "jit")]
        self.linux = Kernel(live) if live is not None else None
        self._verify_once()
        self.counts: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.verdicts: list[str] = []  # programs of which our verifier says something else than Linux

    def _verify_once(self) -> None:
        # the second kernel takes what the verifier of the first one made: both are alike
        first, second = (simulated.kernel for simulated in self.simulated)
        verify = first.verify
        last: list[Any] = []

        def verify_first(attr: Any) -> Any:
            last[:] = [verify(attr)]
            return last[0]

        def verify_second(_attr: Any) -> Any:
            maps = tuple(second.map_at(found.address) for found in last[0].maps)
            return replace(last[0], maps=maps)

        first.verify = verify_first  # type: ignore[method-assign]
        second.verify = verify_second  # type: ignore[method-assign]

    def step(self) -> None:
        """Run one program everywhere; Difference when something is not the same."""
        program = self.generator.program()
        fds = self._load(program)
        if not fds:
            return
        self.counts["programs"] += 1
        self.parts.update(program.parts)
        self._count_rows(program)
        for _ in range(RUNS):
            data = packet(self.rng)
            self._run(program, fds, data)
        if self.linux is not None:
            self._compare_maps(program, data, self.linux)
        if self.rng.random() < 0.5:
            slot = self.rng.randrange(5)
            for kernel, fd in zip(self._kernels(), fds, strict=True):
                kernel.offer(fd, slot)

    def _kernels(self) -> list[Kernel]:
        return [*self.simulated, *([self.linux] if self.linux is not None else [])]

    def _load(self, program: Program) -> list[int]:
        try:
            first = self.simulated[0].load(program)
        except NotModelled:
            self.counts["not modelled"] += 1
            return []
        except KernelError as error:
            self.counts["refused"] += 1
            self.refusals[str(error).rsplit(" (", 1)[0]] += 1
            if self.linux is not None and self._linux_takes(program):
                self.verdicts.append(f"only we refuse: {error}")
            return []
        fds = [first, self.simulated[1].load(program)]
        if self.linux is not None:
            try:
                fds.append(self.linux.load(program))
            except KernelError as error:
                if LINUX_GIVES_UP not in str(error):
                    self.verdicts.append(f"only Linux refuses: {error}")
                return []
        return fds

    def _linux_takes(self, program: Program) -> bool:
        assert self.linux is not None
        try:
            self.linux.load(program)
        except KernelError:
            return False
        return True

    def _run(self, program: Program, fds: list[int], data: bytes) -> None:
        interp, jit = (kernel.run(fd, data) for kernel, fd in zip(self.simulated, fds, strict=False))
        if interp != jit:
            raise Difference(self._text(program, data, f"interpreter {interp}, JIT {jit}"))
        first, second = (kernel.ram() for kernel in self.simulated)
        if first != second:
            at = next(at for at, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
            raise Difference(self._text(program, data, f"RAM differs at offset {FIRST_BYTE + at:#x}"))
        if isinstance(interp[0], str):
            raise Difference(self._text(program, data, f"the verifier takes a program that faults: {interp[0]}"))
        self.counts["runs"] += 1
        self.counts["tail calls"] += interp[4]
        if self.linux is None:
            return
        linux = self.linux.bpf.prog_test_run(fds[2], data)
        if (linux.retval, linux.data_out) != (interp[1], interp[5]):
            ours, theirs = (interp[1], interp[5].hex()), (linux.retval, linux.data_out.hex())
            raise Difference(self._text(program, data, f"simulator {ours}, Linux {theirs}"))

    def _compare_maps(self, program: Program, data: bytes, linux: Kernel) -> None:
        ours, theirs = self.simulated[0].contents(), linux.contents()
        if ours != theirs:
            changed = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
            raise Difference(self._text(program, data, f"maps differ: {changed}"))

    def _count_rows(self, program: Program) -> None:
        at = 0
        while at < len(program.insns):
            insn = program.insns[at]
            row = find(insn)
            assert row is not None
            self.rows[row.name] += 1
            at += insn_len(insn)

    def _text(self, program: Program, data: bytes, what: str) -> str:
        return f"{what}\nparts: {' '.join(program.parts)}\npacket: {data.hex()}\nslots: {program.insns!r}"

    def close(self) -> None:
        """Give back what Linux keeps for us."""
        if self.linux is not None:
            self.linux.close()
