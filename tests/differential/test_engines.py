"""Random programs: interpreter and JIT give the same results, memory, counts, costs and faults.

Two machines are built alike, so that everything has the same address in both, and run the same programs one after the
other, one in the interpreter and one as machine code. ``python tests/differential/test_engines.py FIRST SEEDS EACH``
runs more seeds than the tests do.
"""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.errors import EbpfSimError
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import TABLE, Form, Row, find, insn_len
from ebpfsim.jit.emit import IN_PYTHON
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.vm.compile import ENDS, OPERATIONS

MODELLED = [row for row in TABLE if (row.form in OPERATIONS or row.form in ENDS) and row.form not in IN_PYTHON]
STRAIGHT_ROWS = [row for row in MODELLED if row.form in OPERATIONS and row.form is not Form.LD_IMM64]
# rows that leave the address of memory alone or need one
QUIET_ROWS = [row for row in STRAIGHT_ROWS if not row.size]
MEMORY_ROWS = [row for row in STRAIGHT_ROWS if row.size]
JUMP_ROWS = [row for row in MODELLED if row.form in (Form.JMP_IMM, Form.JMP_REG, Form.JA, Form.JA32, Form.MAY_GOTO)]
INTERESTING = (0, 1, 2, 7, 31, 32, 63, 64, 127, 128, 255, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
PACKET_ROWS = [row for row in TABLE if row.form in (Form.LD_ABS, Form.LD_IND)]  # rewritten before engines see them
HELPERS = [
    HELPER_IDS[f"bpf_{name}"]
    for name in (
        *("ktime_get_ns", "get_smp_processor_id", "get_prandom_u32", "map_lookup_elem", "map_update_elem"),
        *("map_delete_elem", "map_lookup_percpu_elem", "loop", "for_each_map_elem", "probe_read_kernel", "tail_call"),
        *("map_push_elem", "map_pop_elem", "map_peek_elem", "ringbuf_output", "ringbuf_reserve", "ringbuf_submit"),
        *("ringbuf_discard", "ringbuf_query", "csum_diff", "spin_lock", "spin_unlock", "strncmp", "snprintf"),
        *("trace_printk", "trace_vprintk", "probe_read_kernel_str", "jiffies64", "ktime_get_coarse_ns"),
    )
]
_OTHERS = HELPERS[11:]  # arguments of all kinds
M64 = (1 << 64) - 1
DATA_BYTES = 8192
FIRST_BYTE = 1 << 24  # of what the allocator hands out


class Pair:
    """Two machines alike; ``checked`` code or such as verified programs get."""

    def __init__(self, make_machine: Callable[..., Any], *, checked: bool, debug: bool = False) -> None:
        from ebpfsim.jit.engine import compile_prog as compile_jit
        from ebpfsim.jit.engine import execute
        from ebpfsim.vm.interp import compile_prog as compile_interp

        self.machines = [_machine(make_machine, debug=debug) for _ in range(2)]
        self.compilers = [compile_interp, lambda prog, kernel: compile_jit(prog, kernel, checked=checked)]
        self.execute, self.verified_insns = execute, int(not checked)

    def run(self, code: tuple[Insn, ...], frame: int | None, slot: int) -> tuple[list[Any], list[bytes]]:
        """Run a program on both, after it went into a slot of the program array; what it gave, and all RAM."""
        outcomes = []
        for machine, compiler in zip(self.machines, self.compilers, strict=True):
            outcomes.append(self._run(machine, compiler, code, frame, slot))
        return outcomes, [bytes(m.mem.buf[FIRST_BYTE : m.mem._next_page]) for m in self.machines]

    def _run(self, machine: Any, compiler: Any, code: tuple[Insn, ...], frame: int | None, slot: int) -> Any:
        try:
            prog = _prog(machine, code, frame)
            prog.verified_insns = self.verified_insns
            prog.run = compiler(prog, machine)
        except EbpfSimError as error:
            return type(error), str(error)
        machine.prog_array.put_slot(slot, prog)
        cpu = machine.cpus[0]
        before_ps = cpu.elapsed_ps
        try:
            run = self.execute(prog, machine.data, cpu)
        except (EbpfSimError, AttributeError, ValueError, NotImplementedError) as error:
            registers = getattr(error, "registers", None)
            return type(error), str(error), cpu.elapsed_ps - before_ps, cpu.stack_top, registers
        counts = run.insns, run.cost_ps, run.tail_calls, cpu.elapsed_ps - before_ps, cpu.stack_top
        return run.r0, run.retval, *counts


def _machine(make_machine: Callable[..., Any], *, debug: bool = False) -> Any:
    from ebpfsim.conformance import _guarded
    from ebpfsim.cpu import Cpu
    from ebpfsim.helpers import csum, ringbuf
    from ebpfsim.helpers import map as map_helpers
    from ebpfsim.helpers.checked import checked_helpers
    from ebpfsim.helpers.skb_load import skb_load_helpers
    from ebpfsim.maps.array import ArrayMap, PercpuArrayMap
    from ebpfsim.maps.hash import HashMap
    from ebpfsim.maps.lru_hash import LruHashMap
    from ebpfsim.maps.map import MapAttr
    from ebpfsim.maps.percpu_hash import PercpuHashMap
    from ebpfsim.maps.prog_array import ProgArrayMap
    from ebpfsim.maps.queue import QueueMap
    from ebpfsim.maps.ringbuf import RingbufMap
    from ebpfsim.memory import Memory
    from ebpfsim.uapi.bpf import MapType

    machine = make_machine(insn_budget=3000, debug=debug)
    machine.mem = Memory()
    if debug:
        machine.mem.track()
    machine.cpus = [Cpu(0, machine.clock, machine.mem)]
    data = machine.data = machine.mem.alloc(DATA_BYTES, what="the data")
    families = machine.helpers | map_helpers.HELPERS | csum.HELPERS | ringbuf.HELPERS
    guarded = {number: _guarded(number, helper) for number, helper in families.items()}
    machine.helpers = checked_helpers(guarded) if debug else guarded
    machine.helpers |= skb_load_helpers(lambda _run, _ctx: (data, DATA_BYTES))
    for cls, map_type, key_size, value_size, entries in (
        (ArrayMap, MapType.ARRAY, 4, 12, 5),
        (PercpuArrayMap, MapType.PERCPU_ARRAY, 4, 8, 5),
        (HashMap, MapType.HASH, 4, 8, 5),
        (ProgArrayMap, MapType.PROG_ARRAY, 4, 4, 5),
        (LruHashMap, MapType.LRU_HASH, 4, 8, 5),
        (PercpuHashMap, MapType.PERCPU_HASH, 4, 8, 5),
        (RingbufMap, MapType.RINGBUF, 0, 0, 4096),
        (QueueMap, MapType.QUEUE, 0, 8, 4),
    ):
        attr = MapAttr(map_type, key_size, value_size, entries, map_name=map_type.lower)
        made: Any = cls(attr, machine.mem, 1)  # type: ignore[abstract]
        machine.maps[made.address] = made
    machine.prog_array = list(machine.maps.values())[3]
    return machine


def _prog(machine: Any, code: tuple[Insn, ...], frame: int | None) -> Any:
    from ebpfsim.isa.ld_abs import expand
    from ebpfsim.progs.prog import Prog, Subprog
    from ebpfsim.uapi.bpf import AttachType, ProgType

    machine._image_addr += 0x10000
    code, _ = expand(code)
    subprogs = () if frame is None else (Subprog(0, len(code), "test", frame),)
    return Prog("test", ProgType.XDP, AttachType.XDP, code, subprogs, (), image_addr=machine._image_addr)


# ---- programs -----------------------------------------------------------------------------------------------------


def _imm(rng: random.Random) -> int:
    value = rng.choice([*INTERESTING, rng.getrandbits(32)]) * rng.choice((1, -1))
    return ((value & 0xFFFF_FFFF) ^ 1 << 31) - (1 << 31)


def _wide(value: int) -> list[Insn]:
    low, high = value & 0xFFFF_FFFF, value >> 32 & 0xFFFF_FFFF
    halves = [(half ^ 1 << 31) - (1 << 31) for half in (low, high)]
    return [Insn(0x18, imm=halves[0]), Insn(0, imm=halves[1])]


def _constant(dst: int, value: int) -> list[Insn]:
    first, second = _wide(value)
    return [first._replace(dst=dst), second]


class Generator:
    """Programs from a seed. ``wild`` ones go everywhere; others reach memory through r10 only and do not fault."""

    def __init__(self, seed: int, machine: Any, *, wild: bool) -> None:
        self.rng = random.Random(seed)
        self.wild = wild
        self.data = machine.data
        self.pointers = [machine.data, machine.data + DATA_BYTES, machine.cpus[0].stack_top, *machine.maps]

    def program(self) -> tuple[Insn, ...]:
        rng = self.rng
        parts = [self.start(), *[self.one() for _ in range(rng.randrange(3, 60))]]
        parts.append([*self.dump(), Insn(149)])
        parts += [self.one() for _ in range(rng.randrange(0, 6))]
        parts.append([Insn(0x95)])
        entries = [sum(len(part) for part in parts[:number]) for number in range(len(parts))]
        return self.aimed([insn for part in parts for insn in part], entries)

    def start(self) -> list[Insn]:
        rng = self.rng
        insns = []
        for reg in range(10):
            value = rng.choice(
                [rng.getrandbits(64), rng.getrandbits(32), rng.choice(INTERESTING), -rng.choice(INTERESTING)]
            )
            if rng.random() < 0.4 and self.wild:
                value = rng.choice(self.pointers) + rng.choice((0, 8, 64, -8, -4, -1, 4096, 4095))
            insns += _constant(reg, value & M64)
        for slot in range(1, 9):
            insns.append(Insn(0x7A, 10, 0, -8 * slot, _imm(rng)))
        return insns

    def dump(self) -> list[Insn]:
        return _constant(11, self.data) + [Insn(0x7B, 11, reg, 8 * reg) for reg in range(11)]

    def one(self) -> list[Insn]:
        rng = self.rng
        kind = rng.random()
        if kind < 0.11:
            row = rng.choice(JUMP_ROWS)
        elif kind < 0.12 and self.wild:
            row = rng.choice(PACKET_ROWS)
        elif kind < 0.17:
            return self.call()
        elif kind < 0.2:
            value = rng.choice([*self.pointers, rng.getrandbits(64)]) if self.wild else rng.getrandbits(64)
            return _constant(rng.randrange(10), value)
        elif kind < 0.55:
            row = rng.choice(MEMORY_ROWS)
        else:
            row = rng.choice(QUIET_ROWS)
        return [self.slot(row)]

    def slot(self, row: Row) -> Insn:
        rng = self.rng
        top = 12 if self.wild else 10
        fields = {"dst": rng.randrange(top), "src": rng.randrange(top), "imm": _imm(rng)}
        if row.size:
            fields["off"] = rng.choice((0, 1, -1, 8, rng.randrange(-64, 64), rng.randrange(-32768, 32768)))
            if not self.wild or rng.random() < 0.5:
                fields["off"] = -row.size - rng.randrange(0, 65 - row.size)
                base = "src" if "LDX" in row.form.name or "LDSX" in row.form.name or "ACQ" in row.form.name else "dst"
                fields[base] = 10
        if row.form is Form.MAY_GOTO:
            fields.pop("src")
        return row.insn(**{name: value for name, value in fields.items() if name in row.operands})

    def call(self) -> list[Insn]:
        rng = self.rng
        if rng.random() < 0.3:
            return [Insn(0x85, 0, 1, 0, 0)]
        if not self.wild:
            # array look-ups are inlined where the map is known in the block
            key = [Insn(0xBF, 2, 10), Insn(0x07, 2, 0, 0, -8), Insn(0x7A, 10, 0, -8, rng.randrange(7))]
            lookup = [*key, *_constant(1, rng.choice(self.pointers[3:6])), Insn(0x85, 0, 0, 0, 1)]
            return rng.choice([lookup, [Insn(0x85, 0, 0, 0, rng.choice(HELPERS[:3]))]])
        helper = rng.choice(HELPERS)
        arguments = []
        if self.wild and rng.random() < 0.9:
            arguments += _constant(1, rng.choice(self.pointers[3:]))
            arguments += [Insn(0xBF, 2, 10), Insn(0x07, 2, 0, 0, -8), Insn(0xBF, 3, 10), Insn(0x07, 3, 0, 0, -32)]
            arguments += [Insn(0x7A, 10, 0, -8, rng.randrange(7)), Insn(0xB7, 4, 0, 0, rng.choice((0, 0, 0, 1, 2)))]
            if helper == HELPER_IDS["bpf_tail_call"]:
                arguments += [*_constant(2, self.pointers[6]), Insn(183, 3, 0, 0, rng.randrange(6))]
            if helper in (HELPER_IDS["bpf_ringbuf_submit"], HELPER_IDS["bpf_ringbuf_discard"]):
                # what was reserved may still be in R0
                arguments = [Insn(0xBF, 1, rng.choice((0, 0, 6))), Insn(0xB7, 2, 0, 0, rng.choice((0, 1, 2)))]
            elif helper in _OTHERS:
                arguments = [argument for reg in range(1, 6) for argument in self.argument(reg)]
            if helper == HELPER_IDS["bpf_loop"]:
                arguments += [Insn(0xB7, 1, 0, 0, rng.randrange(4)), Insn(0x18, 2, 4), Insn(0), Insn(0xB7, 4, 0, 0, 0)]
            if helper == HELPER_IDS["bpf_for_each_map_elem"]:
                arguments += [Insn(0x18, 2, 4), Insn(0), Insn(0xB7, 4, 0, 0, 0)]
        return [*arguments, *self.of_number(helper)]

    def of_number(self, helper: int) -> list[Insn]:
        """Call a helper: by its number in the instruction, or in a register, where now and then anything may be."""
        rng = self.rng
        kind = rng.random()
        if not self.wild or kind < 0.8:
            return [Insn(0x85, 0, 0, 0, helper)]
        reg = rng.choice((0, 6, 7, 8, 9, rng.randrange(12)))
        callx = Insn(0x8D, reg)
        if kind < 0.82:
            return [callx]
        number = helper if kind < 0.98 else helper | 1 << rng.choice((31, 32, 63))
        return [*_constant(reg, number), callx]

    def argument(self, reg: int) -> list[Insn]:
        """Give a register something that helpers take: a number, a map, memory, a function."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.4:
            return [Insn(0xB7, reg, 0, 0, rng.choice((0, 1, 4, 8, 16, 33, -1)))]
        if kind < 0.6:
            return _constant(reg, rng.choice(self.pointers[3:]))
        if kind < 0.8:
            return [Insn(0xBF, reg, 10), Insn(0x07, reg, 0, 0, -8 * rng.randrange(1, 9))]
        return _constant(reg, self.data + rng.choice((0, 8, rng.randrange(DATA_BYTES), rng.randrange(-64, 9000))))

    def aimed(self, insns: list[Insn], entries: list[int]) -> tuple[Insn, ...]:
        """Give jumps, calls and function addresses a target; tame programs only go forward, to entries."""
        starts, at = [], 0
        while at < len(insns):
            starts.append(at)
            at += insn_len(insns[at])
        for at in starts:
            row = find(insns[at])
            assert row is not None
            onward = [slot for slot in (starts if self.wild else entries) if slot > at]
            local = row.form is Form.CALL_LOCAL or row.name == "ld_imm64.func"
            if not (row in JUMP_ROWS or local) or not onward:
                continue
            onward = onward[:5] if self.rng.random() < 0.8 else onward
            anywhere = self.wild and self.rng.random() < 0.2
            target = self.rng.choice([slot for slot in starts if slot >= entries[1]] if anywhere else onward)
            field = "imm" if row.form is Form.JA32 or local else "off"
            insns[at] = insns[at]._replace(**{field: target - at - 1})
        return tuple(insns)


def differences(
    make_machine: Callable[..., Any], seed: int, count: int, *, wild: bool, seen: set[str], debug: bool = False
) -> list[str]:
    """Run ``count`` programs of a seed on both engines; return what differs. ``seen`` gets the kinds of ends."""
    pair = Pair(make_machine, checked=wild, debug=debug)
    generator = Generator(seed, pair.machines[0], wild=wild)
    for number in range(count):
        code = generator.program()
        frame = generator.rng.choice((None, None, 64, 128, 512))
        outcomes, memories = pair.run(code, frame, number % 5)
        if outcomes[0] != outcomes[1]:
            return [f"seed {seed} program {number}: interpreter {outcomes[0]}, JIT {outcomes[1]}", repr(code)]
        if memories[0] != memories[1]:
            at = next(at for at, (a, b) in enumerate(zip(*memories, strict=True)) if a != b)
            return [f"seed {seed} program {number}: RAM differs at {FIRST_BYTE + at:#x}", repr(code)]
        first = outcomes[0]
        seen.add(str(first[1]).split(" in program")[0].split(", address")[0] if isinstance(first[0], type) else "exit")
    return []


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(8, 20))])
@pytest.mark.parametrize("wild", [False, True], ids=["tame", "wild"])
def test_engines_do_the_same(make_machine: Any, seed: int, wild: bool) -> None:
    seen: set[str] = set()
    assert differences(make_machine, seed, 75, wild=wild, seen=seen) == []
    assert seen == {"exit"} if not wild else len(seen) > 8


@pytest.mark.parametrize("seed", range(4))
def test_engines_report_the_same_in_debug_mode(make_machine: Any, seed: int) -> None:
    seen: set[str] = set()
    assert differences(make_machine, seed, 75, wild=True, seen=seen, debug=True) == []
    assert len({kind for kind in seen if "out-of-bounds" in kind}) > 3


@pytest.mark.parametrize("seed", [*range(30, 32), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(8))])
@pytest.mark.parametrize("wild", [False, True], ids=["tame", "wild"])
def test_functions_of_hot_blocks_do_the_same(
    make_machine: Any, monkeypatch: pytest.MonkeyPatch, seed: int, wild: bool
) -> None:
    # every block at its first execution, with all ways on
    monkeypatch.setattr("ebpfsim.vm.hot.HEAT", 1)
    monkeypatch.setattr("ebpfsim.vm.hot.RARE", 0)
    assert differences(make_machine, seed, 40, wild=wild, seen=set()) == []


def test_the_generator_knows_every_row() -> None:
    class Somewhere:
        data = FIRST_BYTE
        maps = (1, 2, 3, 4)
        cpus: Any = (type("", (), {"stack_top": 5}),)

    for wild in (False, True):
        generator = Generator(1, Somewhere, wild=wild)
        made = {find(slot) for _ in range(500) for slot in generator.program() if slot.code}
        missing = {*MODELLED, *(PACKET_ROWS if wild else ())} - made
        others = {f"ld_imm64.{kind}" for kind in ("map_fd", "map_value", "btf_id", "map_idx", "map_idx_value")}
        others.add("call.kfunc")  # the verifier gives it its function
        # the verifier refuses callx, so that plain code has none
        assert {row.name for row in missing} <= others | (set() if wild else {"ld_imm64.func", "callx"})


def run_unproved(make_machine: Callable[..., Any], seed: int, count: int) -> int:
    """Run wild programs as code that only verified ones get: they may spoil the RAM, and nothing else."""
    from ebpfsim.jit.engine import compile_prog, execute

    machine = _machine(make_machine)
    generator = Generator(seed, machine, wild=True)
    done = 0
    for number in range(count):
        try:
            prog = _prog(machine, generator.program(), None)
            prog.run = compile_prog(prog, machine, checked=False)
            machine.prog_array.put_slot(number % 5, prog)
            execute(prog, machine.data, machine.cpus[0])
        except (EbpfSimError, AttributeError, ValueError, NotImplementedError):
            continue
        done += 1
    return done


def test_code_without_checks_never_leaves_the_ram() -> None:
    # another process: what fails here is a crash
    done = subprocess.run([sys.executable, __file__, "1", "5", "200", "plain"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) > 400


def _main(first: int, count: int, each: int, plain: bool) -> int:
    import faulthandler
    import importlib.util

    faulthandler.enable()
    spec = importlib.util.spec_from_file_location("conftest", Path(__file__).parent.parent / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    if plain:
        print(sum(run_unproved(conftest.Machine, seed, each) for seed in range(first, first + count)))
        return 0
    seen: set[str] = set()
    for seed in range(first, first + count):
        for wild in (False, True):
            found = differences(conftest.Machine, seed, each, wild=wild, seen=seen)
            if found:
                print("wild" if wild else "tame", *found, sep="\n")
                return 1
    print(f"{2 * count * each} programs, no difference; {len(seen)} kinds of ends")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*(int(text) for text in sys.argv[1:4]), plain="plain" in sys.argv))
