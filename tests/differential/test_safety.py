"""Unverified programs reach mapped simulated memory or nothing: random pointers, pointers of this process, any offset.

Each memory operation of the instruction table is a program that takes its pointer and its value from a table. Whether
an access must fault is decided here, byte by byte; what lies beside the simulated RAM in this process, and pages of the
RAM that are not mapped or read-only, are canaries. In debug mode there are objects of all kinds beside each other, and
an access must fault as well when it leaves the object that its pointer is in. ``make safety`` runs more than the tests
do.
"""

import ctypes
import mmap
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from ebpfsim.errors import KernelOops, NotModelled
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import BY_NAME, TABLE, Form, Row
from ebpfsim.memory import KERNEL_BASE, PAGE_SIZE
from ebpfsim.memory.arena import MAPPED, PAGE_SHIFT, READ_ONLY, UNMAPPED
from ebpfsim.vm.compile import OPERATIONS

M64 = (1 << 64) - 1
# arenas are not of the simulated kernel's own memory
ROWS = [row for row in TABLE if row.size and row.form in OPERATIONS and row.form is not Form.ARENA]
LOADS = (Form.LDX, Form.LDSX, Form.PROBE_LDX, Form.PROBE_LDSX, Form.LOAD_ACQUIRE)
PROBES = (Form.PROBE_LDX, Form.PROBE_LDSX)
OFFSETS = (0, 1, -1, 7, -8, 4095, -4096, 32767, -32768)
CANARY = bytes(range(7, 256, 3)) * 1024
SPREAD = 32 * 1024


class Thing(NamedTuple):
    """An object from ``start`` to ``end`` (not included), and whether it is alive."""

    start: int
    end: int
    alive: bool = True


class Things:
    """Objects of all kinds in the RAM of a machine, and what may be accessed; nothing of it asks the machine."""

    def __init__(self, mem: Any, rng: random.Random) -> None:
        objects = mem.track()
        self.things: list[Thing] = []
        for _ in range(40):
            size, alive = rng.randrange(1, 200), rng.random() < 0.7
            address = mem.alloc(size)
            if not alive:
                mem.free(address)
            self.things.append(Thing(address, address + size, alive))
        for stride, length, count in ((8, 8, 20), (24, 17, 30), (4096, 4001, 3)):
            values = mem.alloc(stride * count)
            objects.hide(values, "values")
            objects.part(values, stride * count, lambda index: f"value {index}", stride=stride, length=length)
            self.things += [Thing(values + stride * n, values + stride * n + length) for n in range(count)]
        for _ in range(3):
            frame = mem.alloc(4096)
            start = frame + rng.randrange(200, 300)
            end = start + rng.randrange(14, 1600)
            objects.limit(frame, start, end, "the packet")
            self.things.append(Thing(start, end))
        ring = mem.alloc(4096)
        objects.hide(ring, "a ring")
        for number in range(8):
            start, size = ring + 512 * number + 8, rng.randrange(1, 500)
            record = objects.part(start, size, "a record")
            if number % 2:
                objects.kill(record)
            self.things.append(Thing(start, start + size, alive=not number % 2))

    def add(self, start: int, size: int) -> None:
        """Enter another object; after the last one comes ``ready``."""
        self.things.append(Thing(start, start + size))

    def ready(self) -> None:
        """Sort them, so that they are found quickly."""
        self.things.sort()
        self.starts = [thing.start for thing in self.things]

    def at(self, address: int) -> Thing | None:
        """Return the object that a byte lies in."""
        number = bisect_right(self.starts, address) - 1
        return self.things[number] if number >= 0 and address < self.things[number].end else None

    def allowed(self, pointer: int, address: int, size: int) -> bool:
        """Say whether an access lies in one live object, the pointer's if that points into one or to its end."""
        thing = self.at(address)
        if thing is None or not thing.alive or address + size > thing.end:
            return False
        inside, before = self.at(pointer), self.at(pointer - 1)
        pointed = [inside] if inside is not None else []
        if before is not None and before.end == pointer:
            pointed.append(before)
        return not pointed or thing in pointed


class Range:
    """A machine with pages of every kind, canaries around them, and programs that access what they are told to."""

    def __init__(self, machine: Any, compiler: Callable[..., Any], rng: random.Random) -> None:
        from ebpfsim.cpu import Cpu
        from ebpfsim.memory import Memory

        machine.mem = mem = Memory()
        self.things = Things(mem, rng) if machine.config.debug else None
        machine.cpus = [Cpu(0, machine.clock, mem)]
        self.machine, self.mem, self.rng = machine, mem, rng
        self.table = mem.alloc(64)
        pages = mem.alloc(7 * PAGE_SIZE)
        if self.things is not None:
            self.things.add(self.table, 64)
            self.things.add(pages, 7 * PAGE_SIZE)
            # the frame of the program that runs
            self.things.add(machine.cpus[0].stack_top - 512, 512)
            self.things.ready()
        self.first = -(-pages // PAGE_SIZE) * PAGE_SIZE
        # mapped, read-only, mapped, unmapped, mapped, mapped
        for number, state in ((1, READ_ONLY), (3, UNMAPPED)):
            at = self.first + number * PAGE_SIZE - KERNEL_BASE
            mem.buf[at : at + PAGE_SIZE] = CANARY[:PAGE_SIZE]
            mem.map_pages(at, PAGE_SIZE, state)
        self.buffers = [ctypes.create_string_buffer(CANARY) for _ in range(3)]
        self.pages = [mmap.mmap(-1, len(CANARY)) for _ in range(2)]
        for page in self.pages:
            page[:] = CANARY
        ram = ctypes.addressof(ctypes.c_char.from_buffer(mem.buf))
        hosts = [ctypes.addressof(buffer) for buffer in self.buffers]
        hosts += [ctypes.addressof(ctypes.c_char.from_buffer(page)) for page in self.pages]
        self.pointers = [*hosts, ram, ram + mem.size, id(rng), 0, M64, 1 << 63, KERNEL_BASE, KERNEL_BASE + mem.size]
        # where a canary would be if the offset of an address were taken for granted
        self.pointers += [KERNEL_BASE + host - ram & M64 for host in hosts]
        self.pointers += [self.first + number * PAGE_SIZE for number in range(7)] * 3
        if self.things is not None:
            self.pointers += [at for thing in self.things.things for at in (thing.start, thing.end)]
        self.programs = [(row, off, self._program(compiler, row, off)) for row in ROWS for off in self._offsets()]

    def _offsets(self) -> list[int]:
        near = [self.rng.randrange(-64, 64) for _ in range(3)] if self.things is not None else []
        return self.rng.sample(OFFSETS, 3) + [self.rng.randrange(-SPREAD, SPREAD) for _ in range(2)] + near

    def _program(self, compiler: Callable[..., Any], row: Row, off: int) -> Any:
        load = BY_NAME["ldx.u64"]
        pointer, value = 2, 3
        base = {"dst": value, "src": pointer} if row.form in LOADS else {"dst": pointer, "src": value}
        fields = {name: number for name, number in {**base, "off": off, "imm": 0x55}.items() if name in row.operands}
        code = (
            load.insn(dst=pointer, src=1),
            load.insn(dst=value, src=1, off=8),
            load.insn(dst=0, src=1, off=16),
            row.insn(**fields),
            BY_NAME["mov64.imm"].insn(dst=0, imm=1),
            Insn(0x95),
        )
        prog = self.machine.prog(code)
        prog.run = compiler(prog, self.machine)
        return prog

    def pointer(self) -> int:
        rng = self.rng
        if rng.random() < 0.1:
            return rng.getrandbits(64)
        return rng.choice(self.pointers) + rng.choice((0, rng.randrange(-16, 16), rng.randrange(-SPREAD, SPREAD))) & M64

    def allowed(self, row: Row, address: int) -> bool:
        """Say whether every byte of an access may be accessed, one by one."""
        states = {READ_ONLY, MAPPED} if row.form in LOADS else {MAPPED}
        for number in range(row.size):
            at = (address + number & M64) - KERNEL_BASE
            if not 0 <= at < self.mem.size or self.mem.pages[at >> PAGE_SHIFT] not in states:
                return False
        return True

    def expected(self, row: Row, pointer: int, address: int) -> bool:
        """Say whether an access takes place."""
        in_object = self.things is None or row.form in PROBES or self.things.allowed(pointer, address, row.size)
        return in_object and self.allowed(row, address)

    def access(self) -> str:
        """Access something; return what came of it."""
        rng = self.rng
        row, off, prog = rng.choice(self.programs)
        pointer = self.pointer()
        address = pointer + off & M64
        expected = self.expected(row, pointer, address)
        # the machine's own structures are no canaries, but the run needs them: stacks and the table itself
        if row.form not in LOADS and expected and not self.ours(address, row.size):
            return "left alone"
        for at, value in enumerate((pointer, rng.getrandbits(64), rng.choice((0, rng.getrandbits(64))))):
            self.mem.store(self.table + 8 * at, 8, value)
        done, fault = False, address
        try:
            done = prog.run(self.table, self.machine.cpus[0]) == 1
        except KernelOops as oops:
            fault = oops.address
        assert fault == address, (row.name, hex(pointer), off)
        assert done == (row.form in PROBES or expected), (row.name, hex(pointer), off, done)
        return "done" if done else "fault"

    def ours(self, address: int, size: int) -> bool:
        """Say whether an access is within the pages that programs may change."""
        if self.things is not None:
            thing = self.things.at(address)
            return thing is not None and self.table not in range(thing.start, thing.end)
        return self.first <= address and address + size <= self.first + 6 * PAGE_SIZE

    def check(self) -> None:
        """Look at the canaries."""
        assert all(buffer.raw[:-1] == CANARY for buffer in self.buffers)
        assert all(page[:] == CANARY for page in self.pages)
        for number in (1, 3):
            at = self.first + number * PAGE_SIZE - KERNEL_BASE
            assert bytes(self.mem.buf[at : at + PAGE_SIZE]) == CANARY[:PAGE_SIZE]
        assert not any(self.mem.buf[self.mem.size :])  # behind the RAM


def accesses(machine: Any, engine: str, seed: int, count: int) -> Counter[str]:
    """Make ``count`` accesses by an engine; return how many there were of each kind."""
    from ebpfsim.conformance import ENGINES

    aim = Range(machine, ENGINES[engine], random.Random(seed))
    seen = Counter(aim.access() for _ in range(count))
    aim.check()
    return seen


def _skip_without(engine: str) -> None:
    from ebpfsim.jit.engine import unavailable

    if engine == "jit" and unavailable():
        pytest.skip(unavailable())


@pytest.mark.parametrize("engine", ["interp", "jit"])
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_random_accesses(make_machine: Any, engine: str, debug: bool) -> None:
    _skip_without(engine)
    seen = accesses(make_machine(debug=debug), engine, 1, 12_000)
    assert seen["fault"] > 5000
    assert seen["done"] > 1000


def helper_programs(seed: int, count: int, engine: str = "interp") -> Counter[str]:
    """Call every helper of a kernel with arguments of all kinds; return how the runs ended."""
    from ebpfsim.conformance import Conformance
    from ebpfsim.isa.asm import assemble
    from ebpfsim.uapi.bpf import MapType

    rng = random.Random(seed)
    machine = Conformance(engine)
    bpf, kernel = machine.host.bpf, machine.kernel
    fds = [
        bpf.map_create(MapType.ARRAY, 4, 8, 4),
        bpf.map_create(MapType.HASH, 4, 8, 4),
        bpf.map_create(MapType.LRU_HASH, 4, 8, 4),
        bpf.map_create(MapType.PERCPU_ARRAY, 4, 8, 4),
        bpf.map_create(MapType.PROG_ARRAY, 4, 4, 4),
        bpf.map_create(MapType.RINGBUF, 0, 0, 4096),
        bpf.map_create(MapType.QUEUE, 0, 8, 4),
        bpf.map_create(MapType.DEVMAP, 4, 4, 4),
    ]
    data = kernel.mem.alloc(256)
    words = ["0", "1", "4", "8", "64", "-1", "-14", "0x7fffffff", "-2147483648", "0x10000"]
    ends: Counter[str] = Counter()
    for _ in range(count):
        lines = []
        for number in range(1, 6):
            kind = rng.random()
            if kind < 0.35:
                lines.append(f"r{number} = {rng.choice(words)}")
            elif kind < 0.55:
                lines.append(f"r{number} = map[fd:{rng.choice(fds)}] ll")
            elif kind < 0.7:
                lines.append(f"r{number} = r10; r{number} += {-8 * rng.randrange(65)}")
            elif kind < 0.8:
                lines.append(f"r{number} = {data + rng.randrange(-8, 264):#x} ll")
            elif kind < 0.9:
                lines.append(f"r{number} = subprog[f]")
            else:
                lines.append(f"r{number} = {rng.getrandbits(64):#x} ll")
        helper = rng.choice(list(kernel.helpers))
        code = "; ".join([*lines, f"call {helper}", "exit", "f: r0 = 1", "exit"])
        try:
            machine.run(assemble(code), b"\x45" * 64)
            ends["end"] += 1
        except KernelOops:
            ends["oops"] += 1
        except NotModelled:
            ends["not modelled"] += 1
    return ends


@pytest.mark.parametrize("engine", ["interp", "jit"])
def test_helpers_with_any_arguments(engine: str) -> None:
    _skip_without(engine)
    ends = helper_programs(1, 800, engine)
    assert ends["oops"] > 100
    assert ends["end"] > 100
