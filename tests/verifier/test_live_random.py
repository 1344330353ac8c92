"""Random programs: the verifier and the one of this machine's kernel write the same log, line by line.

A program is a chain of short pieces (arithmetic, branches, loops, spills, look-ups, packet and ring buffer accesses),
most of which are right, so that many programs are accepted and refusals come late.
"""

import os
import random
from dataclasses import dataclass, field
from itertools import zip_longest

import pytest
from runner import FD_BASE, Kernel, masked

from ebpfsim.errnos import Errno
from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_TEST_STATE_FREQ
from ebpfsim.verifier.env import BPF_LOG_STATS
from ebpfsim.verifier.verify import LoadAttr, verify

SEEDS = range(150)
# type, key, value, entries, name
MAPS = [
    (MapType.ARRAY, 4, 16, 4, "arr"),
    (MapType.HASH, 4, 48, 8, "hsh"),
    (MapType.PERCPU_ARRAY, 4, 8, 4, "pcp"),
    (MapType.LRU_HASH, 4, 24, 8, "lru"),
    (MapType.RINGBUF, 0, 0, 4096, "rb"),
]
VALUES = (0, 1, 2, 3, 7, 15, 31, 63, 100, 255, 4095, 65535, -1, -2, -8, 0x7FFF_FFFF, -0x8000_0000)
JUMPS = ("==", "!=", "<", "<=", ">", ">=", "s<", "s<=", "s>", "s>=", "&")
WIDTHS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


@dataclass
class Writer:
    """Writes one program; ``scalars`` are the registers that hold numbers."""

    rng: random.Random
    lines: list[str] = field(default_factory=list)
    scalars: list[int] = field(default_factory=list)
    labels: int = 0

    def label(self) -> str:
        self.labels += 1
        return f"l{self.labels}"

    def write(self, text: str) -> None:
        self.lines += [line.strip() for line in text.split(";")]

    def call(self, text: str) -> None:
        """Write a call: R0 is a number afterwards, R1 to R5 are gone."""
        self.write(text)
        self.scalars = [reg for reg in self.scalars if reg > 5] + [0]

    def scalar(self) -> int:
        return self.rng.choice(self.scalars)

    def random_number(self) -> None:
        reg = self.rng.choice((0, 7, 8, 9))
        self.call("call bpf_get_prandom_u32")
        if reg:
            self.write(f"r{reg} = r0")
        if reg not in self.scalars:
            self.scalars.append(reg)
        if self.rng.random() < 0.7:
            self.write(f"r{reg} &= {self.rng.choice((1, 3, 7, 15, 255, 0x1F0, 65535))}")

    def arithmetic(self) -> None:
        rng, reg = self.rng, self.scalar()
        wide = rng.random() < 0.6
        letter = "r" if wide else "w"
        kind = rng.random()
        if kind < 0.08:
            self.write(f"r{reg} = {rng.choice(('be16', 'be32', 'be64', 'le16', 'bswap32'))} r{reg}")
        elif kind < 0.14:
            self.write(f"{letter}{reg} = -{letter}{reg}")
        elif kind < 0.24:
            self.write(f"{letter}{reg} = {rng.choice(('', '(s8)', '(s16)'))}{letter}{self.scalar()}")
        elif kind < 0.4:
            self.write(f"{letter}{reg} {rng.choice(('<<=', '>>=', 's>>='))} {rng.randrange(64 if wide else 32)}")
        elif kind < 0.6:
            self.write(f"{letter}{reg} {rng.choice(('+=', '-=', '*=', '&=', '|=', '^='))} {letter}{self.scalar()}")
        else:
            self.write(f"{letter}{reg} {rng.choice(('+=', '-=', '*=', '&=', '|=', '^='))} {rng.choice(VALUES)}")

    def branch(self, depth: int) -> None:
        rng, end = self.rng, self.label()
        letter = rng.choice("rw")
        right = f"{letter}{self.scalar()}" if rng.random() < 0.3 else str(rng.choice(VALUES))
        self.write(f"if {letter}{self.scalar()} {rng.choice(JUMPS)} {right} goto {end}")
        before = list(self.scalars)
        self.pieces(rng.randint(1, 4), depth + 1)
        self.scalars = [reg for reg in before if reg in self.scalars]
        self.write(f"{end}:")

    def loop(self, depth: int) -> None:
        rng, start = self.rng, self.label()
        counter = rng.choice((7, 8, 9))
        self.write(f"r{counter} = 0; {start}:")
        self.scalars = [reg for reg in self.scalars if reg != counter]
        if self.scalars:
            self.pieces(rng.randint(1, 3), depth + 2)
        if counter not in self.scalars:
            self.write(
                f"r{counter} += 1; if r{counter} {rng.choice(('<', '!=', 's<'))} {rng.randint(2, 6)} goto {start}"
            )

    def stack(self) -> None:
        rng = self.rng
        width, off = rng.choice(list(WIDTHS)), -rng.choice((8, 16, 24, 32, 40))
        if rng.random() < 0.5:
            self.write(f"*({width} *)(r10 {off}) = {rng.choice((f'r{self.scalar()}', '0', '1'))}")
        else:
            reg = rng.choice((0, 7, 8, 9))
            self.write(f"r{reg} = *({width} *)(r10 {off})")
            if reg not in self.scalars:
                self.scalars.append(reg)

    def lookup(self) -> None:
        rng, end = self.rng, self.label()
        number = rng.randrange(4)
        size = MAPS[number][2]
        self.write(f"*(u32 *)(r10 - 48) = {rng.choice((0, 1, 3, 9))}; r2 = r10; r2 += -48; r1 = map_fd[{number}] ll")
        self.call("call bpf_map_lookup_elem")
        self.scalars.remove(0)
        if rng.random() < 0.95:
            self.write(f"if r0 == 0 goto {end}")
        if self.scalars and rng.random() < 0.5:
            reg = self.scalar()
            self.write(f"r{reg} &= {rng.choice((1, 7, size - 1))}; r0 += r{reg}")
        width, bytes_ = rng.choice(list(WIDTHS.items()))
        off = max(0, rng.choice((0, 8, size - bytes_)))
        self.write(rng.choice((f"r1 = *({width} *)(r0 + {off})", f"*({width} *)(r0 + {off}) = 7")))
        self.write(f"{end}: r0 = 0")
        self.scalars.append(0)

    def packet(self) -> None:
        rng, end = self.rng, self.label()
        self.write("r2 = *(u32 *)(r6 + 0); r3 = *(u32 *)(r6 + 4)")
        if rng.random() < 0.4:
            reg = self.scalar()
            self.write(f"r{reg} &= {rng.choice((15, 60, 255))}; r2 += r{reg}")
        size = rng.choice((1, 4, 8, 14, 34))
        check = rng.choice(("if r4 > r3", "if r4 >= r3", "if r3 < r4", "if r3 <= r4", "if r4 != r3"))
        width, bytes_ = rng.choice(list(WIDTHS.items()))
        off = max(0, size - bytes_ + rng.choice((0, 0, 0, 1)))
        self.write(f"r4 = r2; r4 += {size}; {check} goto {end}; r5 = *({width} *)(r2 + {off}); {end}:")

    def ringbuf(self) -> None:
        end = self.label()
        self.write("r1 = map_fd[4] ll; r2 = 16; r3 = 0")
        self.call("call bpf_ringbuf_reserve")
        self.write(f"if r0 == 0 goto {end}; *(u64 *)(r0 + 8) = 1; r1 = r0; r2 = 0")
        if self.rng.random() < 0.95:
            self.call(self.rng.choice(("call bpf_ringbuf_submit", "call bpf_ringbuf_discard")))
        self.write(f"{end}: r0 = 0")

    def pieces(self, count: int, depth: int) -> None:
        for _ in range(count):
            if not self.scalars:
                self.random_number()
            kind = self.rng.random()
            if kind < 0.2 and depth < 4:
                self.branch(depth)
            elif kind < 0.24 and depth < 2:
                self.loop(depth)
            else:
                plain = (self.arithmetic, self.random_number, self.stack, self.lookup, self.packet, self.ringbuf)
                self.rng.choices(plain, (10, 2, 5, 2, 2, 1))[0]()

    def program(self) -> tuple[Insn, ...]:
        self.write("r6 = r1; r0 = 0")
        self.scalars = [0]
        self.pieces(self.rng.randint(4, 14), 0)
        self.write("r0 = 2; exit" if 0 not in self.scalars or self.rng.random() < 0.5 else "exit")
        return assemble("\n".join(self.lines))


def with_fds(insns: tuple[Insn, ...], fds: list[int]) -> tuple[Insn, ...]:
    """Return the program with map number n replaced by a descriptor."""
    return tuple(insn._replace(imm=fds[insn.imm]) if insn.code == 0x18 and insn.src == 1 else insn for insn in insns)


def answer(load: object) -> tuple[int, list[str]]:
    """Return errno and log of a load, without what differs from run to run."""
    try:
        errno, log = 0, load().log  # type: ignore[operator]
    except VerifierError as error:
        errno, log = error.errno, error.log
    return errno, masked(log).splitlines()


class Verdicts:
    """Our verifier beside Linux', with the same maps; ``differs`` says where the answers to a program part."""

    def __init__(self) -> None:
        from ebpfsim.live import Bpf

        self.bpf = Bpf()
        spec = [{"type": t, "key": k, "value": v, "max": n, "name": name} for t, k, v, n, name in MAPS]
        self.kernel = Kernel({"id": "c/random", "maps": spec})
        self.fds = [self.bpf.map_create(t, k, v, n, name=name) for t, k, v, n, name in MAPS]
        self.accepted = 0

    def differs(self, seed: int, log_level: int) -> str:
        """Compare errno and log, which ends with the reason or the count; return the first difference."""
        insns = Writer(random.Random(seed)).program()
        flags = random.Random(seed).choice((0, 0, BPF_F_TEST_STATE_FREQ))
        ours = with_fds(insns, [FD_BASE + number for number in range(len(MAPS))])
        attr = LoadAttr(ProgType.XDP, ours, prog_flags=flags, log_level=log_level)
        code = encode(with_fds(insns, self.fds))
        want = answer(lambda: self._load(code, flags, log_level))
        if want[0] == Errno.ENOSPC and log_level != BPF_LOG_STATS:
            # more text than a buffer takes: the verdict and the counts have to do
            return self.differs(seed, BPF_LOG_STATS)
        got = answer(lambda: verify(attr, self.kernel))
        self.accepted += not want[0]
        if got == want:
            return ""
        lines = zip_longest([str(want[0]), *want[1]], [str(got[0]), *got[1]])
        return next(f"seed {seed}: Linux {a!r}, we {b!r}" for a, b in lines if a != b)

    def _load(self, code: bytes, flags: int, log_level: int) -> object:
        prog = self.bpf.prog_load(ProgType.XDP, code, prog_flags=flags, log_level=log_level)
        os.close(prog.fd)
        return prog

    def close(self) -> None:
        """Give the maps back."""
        for fd in self.fds:
            os.close(fd)


@pytest.mark.live
@pytest.mark.slow
def test_random_programs_are_answered_as_on_linux() -> None:
    verdicts = Verdicts()
    try:
        assert not [text for seed in SEEDS if (text := verdicts.differs(seed, 2 | 4))]
    finally:
        verdicts.close()
    assert verdicts.accepted > len(SEEDS) // 5
