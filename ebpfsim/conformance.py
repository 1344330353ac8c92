"""Programs without a verifier: bytes in, R0 out, as a suite that measures conformance to the ISA wants it.

R1 is the address of the memory that the program gets, R2 its size; both are 0 when there is none. Helpers and maps are
those of a simulated kernel. LD_ABS and LD_IND take the memory for the packet. A call of a kernel function that there
is not gives 0, as the public suite has it (tests/call_runtime.data). What is no program raises DecodeError,
a fault KernelOops; nothing that a program does reaches outside the simulated RAM.
"""

import struct
from collections.abc import Callable
from dataclasses import replace

from ebpfsim.cpu import Cpu
from ebpfsim.elf.reader import read_object
from ebpfsim.elf.sections import SectionFlags
from ebpfsim.elf.spec import ObjectSpec, ProgSpec
from ebpfsim.errors import ElfError, InputError, InternalError, KernelOops, NotModelled
from ebpfsim.helpers.skb_load import skb_load_helpers
from ebpfsim.isa.alu import s32
from ebpfsim.isa.insn import Insn, decode
from ebpfsim.isa.ld_abs import expand
from ebpfsim.isa.table import BY_NAME, Form, find, insn_len
from ebpfsim.isa.validate import validate
from ebpfsim.jit import engine as jit
from ebpfsim.loader import Object
from ebpfsim.maps.map import Map
from ebpfsim.progs.prog import Prog, Subprog
from ebpfsim.progs.runtime import Helper, Run, Runtime
from ebpfsim.simulation import Host, Simulation
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_PSEUDO_FUNC, BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
from ebpfsim.uapi.helper_ids import HELPER_NAMES
from ebpfsim.verifier.kfunc import load_kfunc
from ebpfsim.vm import interp

__all__ = ["ENGINES", "Conformance"]

NAME = "program"
EXIT = BY_NAME["exit"].insn()
# programs of the public suite store a little above their frame, which no verifier would let them do
ENTRY_FRAME_BYTES = 64
SMALLEST_PACKET = 14  # ETH_HLEN: a test run takes no less
Compiler = Callable[[Prog, Runtime], Callable[[int, Cpu], int]]
ENGINES: dict[str, Compiler] = {"interp": interp.compile_prog, "jit": jit.compile_prog}


class Conformance:
    """A simulated kernel that runs programs which nobody has verified; with ``debug`` each access is checked."""

    def __init__(self, engine: str = "interp", *, debug: bool = False) -> None:
        if engine not in ENGINES:
            raise InputError("", f"unknown engine '{engine}'", f"one of {', '.join(ENGINES)}")
        if engine == "jit" and jit.unavailable():
            raise InputError("", jit.unavailable(), "the engine 'interp'")
        self.engine = engine
        sim = Simulation()
        if debug:
            sim.mem.track()
        self.host: Host = sim.host("conformance", engine=engine, debug=debug)
        self.kernel = self.host.kernel
        self.helpers = {number: _guarded(number, helper) for number, helper in self.kernel.helpers.items()}

    def run(self, insns: tuple[Insn, ...], memory: bytes = b"") -> int:
        """Run a program on some bytes of memory and return all 64 bits of R0."""
        validate(insns, NAME)
        kernel = self.kernel
        address = kernel.mem.alloc(len(memory), what="the memory") if memory else 0
        if address:
            kernel.mem.write(address, memory)
        kernel.helpers = {**self.helpers, **skb_load_helpers(lambda _run, _ctx: (address, len(memory)))}
        entry = (BY_NAME["mov64.imm"].insn(dst=2, imm=len(memory)), BY_NAME["call.local"].insn(imm=1), EXIT)
        code, origin = expand((*entry, *self._resolved(insns)))
        frame = Subprog(0, len(entry), "entry", ENTRY_FRAME_BYTES)
        prog = Prog(NAME, ProgType.SOCKET_FILTER, AttachType(0), code, (frame,), ())
        prog.image_addr = kernel.mem.alloc(8 * len(code))
        prog.run = ENGINES[self.engine](prog, kernel)
        try:
            return jit.execute(prog, address, kernel.cpus[0]).r0
        except KernelOops as oops:
            if oops.prog == NAME and oops.insn_idx >= 0:
                oops.insn_idx = origin[oops.insn_idx] - len(entry)
            raise
        finally:
            if address:
                kernel.mem.free(address)

    def run_elf(self, data: bytes, memory: bytes = b"") -> int:
        """Run the first program of an object file, or its first function when libbpf would not take any for one."""
        spec = _with_program(read_object(data, "object"))
        obj = Object(spec, bpf=self.host.bpf)
        obj.load(only=[])
        return self.run(decode(obj.relocate(next(iter(spec.programs)))), memory)

    def run_xdp(self, data: bytes, memory: bytes = b"", *, elf: bool = False) -> int:
        """Verify an XDP program, run it by a test run with the memory for its packet, and return 32 bits of R0."""
        bpf = self.host.bpf
        if elf:
            obj = Object(_with_program(read_object(data, "object")), bpf=bpf)
            for program in obj.programs.values():
                program.type = ProgType.XDP
            first = next(iter(obj.programs))
            fd = obj.load(only=[first]).programs[first].fd
        else:
            fd = bpf.prog_load(ProgType.XDP, data, name=NAME).fd
        return bpf.prog_test_run(fd, memory.ljust(SMALLEST_PACKET, b"\0")).retval

    def _resolved(self, insns: tuple[Insn, ...]) -> tuple[Insn, ...]:
        # loads of maps become loads of their addresses, as the verifier's rewriting makes them
        out = list(insns)
        idx = 0
        while idx < len(insns):
            row = find(insns[idx])
            if row is not None and row.form is Form.LD_IMM64 and insns[idx].src not in (0, BPF_PSEUDO_FUNC):
                address = self._map_address(insns[idx], insns[idx + 1].imm)
                out[idx] = insns[idx]._replace(src=0, imm=s32(address))
                out[idx + 1] = insns[idx + 1]._replace(imm=s32(address >> 32))
            elif row is not None and row.form is Form.CALL_KFUNC and load_kfunc(insns[idx].imm) is None:
                out[idx] = BY_NAME["mov64.imm"].insn()
            idx += insn_len(insns[idx])
        return tuple(out)

    def _map_address(self, insn: Insn, offset: int) -> int:
        if insn.src not in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE):
            raise NotModelled(f"64-bit load of kind {insn.src} without a verifier", "BPF_PSEUDO_*, linux/bpf.h")
        found: Map | None = self.kernel.map_by_fd(insn.imm)
        if found is None:
            raise InputError(NAME, f"fd {insn.imm} is not pointing to a map")
        address = found.address if insn.src == BPF_PSEUDO_MAP_FD else found.direct_value_addr(offset)
        if address < 0:
            raise InputError(NAME, f"the value of map fd {insn.imm} has no address at offset {offset}")
        return address


def _guarded(number: int, helper: Helper) -> Helper:
    # helpers trust the verifier that a map is of the type they need, and a context a context
    def guarded(run: Run, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        try:
            return helper(run, r1, r2, r3, r4, r5)
        except (
            AttributeError,
            InternalError,
            LookupError,
            NotImplementedError,
            OverflowError,
            ValueError,
            struct.error,
        ):
            name = HELPER_NAMES.get(number, f"helper {number}")
            raise KernelOops(f"{name}() with arguments that no verifier would pass") from None

    return guarded


def _with_program(spec: ObjectSpec) -> ObjectSpec:
    if spec.programs:
        return spec
    if not spec.functions:
        raise ElfError(spec.where, "has no function")
    first = spec.functions[0]
    prog = ProgSpec(first.name, first.section_name, ProgType.UNSPEC, 0, "", SectionFlags(0), False, first)
    return replace(spec, programs={first.name: prog})
