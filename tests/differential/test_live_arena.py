"""Programs with an arena: both engines and this machine's kernel return the same."""

import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kfuncs import assemble_kfuncs

import ebpfsim
from ebpfsim.btf.btf import Btf
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.config import KernelConfig
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.isa.table import TABLE, Form, Row
from ebpfsim.jit.engine import execute
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_MMAPABLE

BPF_F_SLEEPABLE = 1 << 4
PAGES = 4
STARTS = (1 << 44, (1 << 44) + (6 << 20))
LOADS = (Form.LDX, Form.LDSX)
FORMS = (*LOADS, Form.ST, Form.STX, Form.ATOMIC, Form.ATOMIC_FETCH, Form.XCHG, Form.CMPXCHG)
# loops around CMPXCHG are not for arenas (bpf_jit_supports_insn, arch/x86/net/bpf_jit_comp.c)
LOOPS = [f"atomic_fetch_{name}{bits}" for name in ("and", "or", "xor") for bits in (32, 64)]
ROWS = [row for row in TABLE if row.form in FORMS and row.name not in LOOPS]
# r6: the pages' address for user space, r7 for the kernel; r8 collects
BEGIN = """
    r1 = map_fd[{0}] ll; r2 = 0; r3 = 2; r4 = -1; r5 = 0; kfunc bpf_arena_alloc_pages
    r6 = r0; r8 = 1; r7 = addr_space_cast(r6, 0, 1)
    r0 = 77; r1 = 0x1234567 ll; r2 = -5; r3 = 0x7fff000000000001 ll; r4 = 9; r5 = 0
"""
END = """
    r9 = addr_space_cast(r7, 1, 0); r9 -= r6; r8 += r9
    r1 = map_fd[{0}] ll; r2 = r6; r2 += 4096; r3 = 1; kfunc bpf_arena_free_pages
    r1 = *(u64 *)(r7 + 4096); r8 += r1; *(u32 *)(r7 + 5000) = 3; r1 = *(u8 *)(r7 + 40); r8 += r1
    r0 = r8; r8 >>= 32; r0 ^= r8; w0 = w0; exit
"""


def one(rng: random.Random, row: Row) -> list[Insn]:
    # within the two pages, around their ends, and far out
    off = rng.choice((0, 8, 40, 4088, 4092, 4095, 4096, 8184, 8190, 8192, 12288, 20000, -8, -1, -4096))
    if row.form not in (*LOADS, Form.ST, Form.STX):
        off &= ~(row.size - 1)  # the verifier wants atomics aligned
    reg = rng.choice((0, 1, 2, 3, 4, 5))
    fields = {"dst": reg if row.form in LOADS else 7, "src": 7 if row.form in LOADS else reg, "off": off}
    insn = row.insn(**{name: {**fields, "imm": rng.choice((-1, 5, 0x1234))}[name] for name in row.operands})
    return [insn, *assemble(f"r8 *= 31; r8 += r{rng.choice((0, reg))}")]


def program(rng: random.Random, fd: int, btf: Btf) -> tuple[Insn, ...]:
    code = list(assemble_kfuncs(BEGIN.replace("{0}", str(fd)), btf))
    for _ in range(rng.randrange(2, 12)):
        code += one(rng, rng.choice(ROWS))
        if rng.random() < 0.2:
            code += assemble("r9 = addr_space_cast(r7, 1, 0); r9 += 8; r7 = addr_space_cast(r9, 0, 1)")
    return (*code, *assemble_kfuncs(END.replace("{0}", str(fd)), btf))


@pytest.mark.live
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("engine", ["interp", "jit"])
def test_same_as_linux(monkeypatch: pytest.MonkeyPatch, engine: str, start: int) -> None:
    from ebpfsim.live import Bpf

    monkeypatch.setattr("ebpfsim.simulation.KernelConfig", partial(KernelConfig, engine=engine))
    host = ebpfsim.Simulation(seed=1).host("h")
    ours: Any = host.bpf
    linux: Any = Bpf()
    # functions of the kernel have other numbers in the kernel of this machine
    ids = {ours: vmlinux(), linux: Btf(Path("/sys/kernel/btf/vmlinux").read_bytes())}
    seen = set()
    for seed in range(60):
        results = []
        for bpf in (linux, ours):
            fd = bpf.map_create(MapType.ARENA, 0, 0, PAGES, map_flags=BPF_F_MMAPABLE, map_extra=start, name="arena")
            code = encode(program(random.Random(seed), fd, ids[bpf]))
            prog = bpf.prog_load(ProgType.SYSCALL, code, prog_flags=BPF_F_SLEEPABLE, name="arena").fd
            if bpf is linux:
                results.append(bpf.prog_test_run(prog, repeat=0).retval)
                os.close(prog)
                os.close(fd)
            else:
                ctx = host.kernel.mem.alloc(8)
                results.append(execute(host.kernel.fds.lookup(prog), ctx, host.kernel.cpus[0]).retval)
        assert results[0] == results[1], seed
        seen.add(results[0])
    assert len(seen) > 40
