"""The code of a trampoline (arch_prepare_bpf_trampoline(), arch/x86/net/bpf_jit_comp.c, v6.18).

The image is what Linux generates on a CPU without IBT, retpolines and call depth tracking: it saves the arguments of
the function into the context that programs get, runs the programs, calls the function behind its patched entry, runs
more programs and returns what the function returned. Its frame, from rbp down::

    -8              result of the function, where it is called
    -regs_off       arguments, the context of programs
    -nregs_off      how many words they are
    -ip_off         address of the function, where a program asks for it
    -rbx_off        rbx of the caller
    -run_ctx_off    struct bpf_tramp_run_ctx
    -arg_stack_off  arguments for the function that do not go into registers

Functions of struct_ops tables are trampolines as well: nothing but one program, whose result they return.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Protocol

from ebpfsim.isa.alu import M64
from ebpfsim.jit.encoder import (
    R8,
    R9,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RET,
    RSI,
    RSP,
    Mem,
    insn,
    mov_imm,
    push,
)
from hooks.func_model import FuncModel

__all__ = [
    "NOP5",
    "PATCH_BYTES",
    "ImageLink",
    "TrampolineLayout",
    "branch_to",
    "padding",
    "prepare_indirect",
    "prepare_trampoline",
]

PATCH_BYTES = 5  # X86_PATCH_SIZE
NOP5 = b"\x0f\x1f\x44\x00\x00"
NOP8 = b"\x0f\x1f\x84\x00\x00\x00\x00\x00"
NOPS = {
    1: b"\x90", 2: b"\x66\x90", 3: b"\x0f\x1f\x00", 4: b"\x0f\x1f\x40\x00", 5: NOP5,
    6: b"\x66\x0f\x1f\x44\x00\x00", 7: b"\x0f\x1f\x80\x00\x00\x00\x00", 8: NOP8,
    9: b"\x66" + NOP8, 10: b"\x66\x2e" + NOP8, 11: b"\x66\x66\x2e" + NOP8,
}  # fmt: skip
ASM_NOP_MAX = 11
RUN_CTX_BYTES = 16  # struct bpf_tramp_run_ctx: run_ctx, which is empty, bpf_cookie, saved_run_ctx
COOKIE_OFF = 0
ARG_REGS = (RDI, RSI, RDX, RCX, R8, R9)
LEAVE = b"\xc9"
CALL, JMP, JNE, JE8 = b"\xe8", b"\xe9", b"\x0f\x85", 0x74
CALL_0 = CALL + bytes(4)
_REL = Struct("<i")


class ImageLink(Protocol):
    """What the image needs of a link: addresses of ``struct bpf_prog``, its code, enter and exit; the cookie."""

    prog_addr: int
    code_addr: int
    enter_addr: int
    exit_addr: int
    cookie: int


def branch_to(opcode: bytes, site: int, target: int) -> bytes:
    """Return a call or jump of 32 bits at an address."""
    return opcode + _REL.pack(target - site - len(opcode) - 4)


def padding(size: int) -> bytes:
    """Return what aligns the next instruction to 16 bytes (emit_align)."""
    missing, found = -size % 16, b""
    while missing:
        step = min(missing, ASM_NOP_MAX)
        found += NOPS[step]
        missing -= step
    return found


def _load(reg: int, off: int) -> bytes:
    return insn("mov_load", Mem(RBP, off), reg)


def _store(off: int, reg: int) -> bytes:
    return insn("mov", Mem(RBP, off), reg)


def _constant(reg: int, value: int) -> bytes:
    # emit_mov_imm64 clears a register by xor
    return mov_imm(reg, value) if value else insn("xor", reg, reg, wide=False)


@dataclass(frozen=True, slots=True)
class TrampolineLayout:
    """Where things are in the frame, in bytes below rbp."""

    regs_off: int
    nregs_off: int
    ip_off: int
    rbx_off: int
    run_ctx_off: int
    arg_stack_off: int
    stack_size: int

    @classmethod
    def of(cls, nr_words: int, *, call_orig: bool, ip_arg: bool = True) -> "TrampolineLayout":
        """Return the layout for a function of so many words."""
        regs_off = 8 * call_orig + 8 * nr_words
        nregs_off = regs_off + 8
        ip_off = nregs_off + 8 * ip_arg
        rbx_off = ip_off + 8
        run_ctx_off = rbx_off + RUN_CTX_BYTES
        on_stack = 8 * max(nr_words - len(ARG_REGS), 0) if call_orig else 0
        arg_stack_off = run_ctx_off + on_stack
        if on_stack and not arg_stack_off % 16:
            # rsp is aligned where the function is called, below the saved rbp and two return addresses
            arg_stack_off += 8
        return cls(regs_off, nregs_off, ip_off, rbx_off, run_ctx_off, arg_stack_off, arg_stack_off)


class _Image:
    def __init__(self, base: int) -> None:
        self.base = base
        self.data = bytearray()

    def add(self, *parts: bytes) -> None:
        self.data += b"".join(parts)

    def call(self, target: int) -> None:
        self.data += branch_to(CALL, self.base + len(self.data), target)

    def align(self) -> None:
        self.data += padding(len(self.data))


@lru_cache(maxsize=4096)
def _invocation(
    regs_off: int, run_ctx_off: int, cookie: int, prog_addr: int, save_ret: bool
) -> tuple[bytes, int, int, int]:
    # the code of invoke_bpf_prog, and where in it the distances of its three calls end
    enter = b"".join(
        (
            _constant(RDI, cookie & M64),
            _store(-run_ctx_off + COOKIE_OFF, RDI),
            mov_imm(RDI, prog_addr),
            insn("lea", Mem(RBP, -run_ctx_off), RSI),
            CALL_0,
        )
    )
    context = insn("lea", Mem(RBP, -regs_off), RDI)
    store = _store(-8, RAX) if save_ret else b""
    # enter returns 0 for a program that must not run
    skip = bytes([JE8, len(context) + len(CALL_0) + len(store)])
    body = insn("mov", RBX, RAX) + insn("test", RAX, RAX) + skip + context + CALL_0
    leave = store + mov_imm(RDI, prog_addr) + insn("mov", RSI, RBX)
    leave += insn("lea", Mem(RBP, -run_ctx_off), RDX) + CALL_0
    return enter + body + leave, len(enter), len(enter) + len(body), len(enter) + len(body) + len(leave)


def _invoke(image: _Image, layout: TrampolineLayout, links: Sequence[ImageLink], *, save_ret: bool) -> None:
    # invoke_bpf_prog, for one program after the other
    data, base, pack_into = image.data, image.base, _REL.pack_into
    regs_off, run_ctx_off = layout.regs_off, layout.run_ctx_off
    at = len(data)
    for link in links:
        code, enter, body, leave = _invocation(regs_off, run_ctx_off, link.cookie, link.prog_addr, save_ret)
        data += code
        behind = base + at
        pack_into(data, at + enter - 4, link.enter_addr - behind - enter)
        pack_into(data, at + body - 4, link.code_addr - behind - body)
        pack_into(data, at + leave - 4, link.exit_addr - behind - leave)
        at += leave


def _save_args(image: _Image, layout: TrampolineLayout, nr_words: int) -> None:
    for number in range(nr_words):
        off = -layout.regs_off + 8 * number
        if number < len(ARG_REGS):
            image.add(_store(off, ARG_REGS[number]))
        else:
            # behind the saved rbp, the return address into the function and the one to its caller
            image.add(_load(RAX, 24 + 8 * (number - len(ARG_REGS))), _store(off, RAX))


def _give_args(image: _Image, layout: TrampolineLayout, nr_words: int) -> None:
    # restore_regs, then those that go on the stack
    for number in range(min(nr_words, len(ARG_REGS))):
        image.add(_load(ARG_REGS[number], -layout.regs_off + 8 * number))
    for number in range(len(ARG_REGS), nr_words):
        # where the caller has put them: programs cannot change them
        image.add(_load(RAX, 24 + 8 * (number - len(ARG_REGS))))
        image.add(_store(-layout.arg_stack_off + 8 * (number - len(ARG_REGS)), RAX))


def _prologue(image: _Image, layout: TrampolineLayout, nr_words: int, func_addr: int) -> None:
    image.add(push(RBP), insn("mov", RBP, RSP), insn("sub_imm", RSP, imm=layout.stack_size))
    image.add(_store(-layout.rbx_off, RBX))
    image.add(_constant(RAX, nr_words), _store(-layout.nregs_off, RAX))
    if layout.ip_off != layout.nregs_off:
        image.add(_constant(RAX, func_addr), _store(-layout.ip_off, RAX))
    _save_args(image, layout, nr_words)


def prepare_trampoline(
    model: FuncModel,
    func_addr: int,
    fentry: Sequence[ImageLink],
    fmod_ret: Sequence[ImageLink],
    fexit: Sequence[ImageLink],
    *,
    base: int,
    im_addr: int,
    tramp_enter: int,
    tramp_exit: int,
    ip_arg: bool = True,
) -> bytes:
    """Return the code of a trampoline at address ``base``; ``im_addr`` is that of ``struct bpf_tramp_image``.

    Without fmod_ret and fexit the function is not called: it goes on behind its entry when the trampoline returns.
    """
    call_orig = bool(fmod_ret or fexit)
    nr_words = model.nr_words
    layout = TrampolineLayout.of(nr_words, call_orig=call_orig, ip_arg=ip_arg)
    image = _Image(base)
    _prologue(image, layout, nr_words, func_addr)
    if call_orig:
        image.add(mov_imm(RDI, im_addr))
        image.call(tramp_enter)
    _invoke(image, layout, fentry, save_ret=False)
    branches: list[int] = []
    if fmod_ret:
        image.add(_constant(RAX, 0), _store(-8, RAX))
        for link in fmod_ret:
            _invoke(image, layout, (link,), save_ret=True)
            image.add(insn("cmp_imm", Mem(RBP, -8), imm=0))
            branches.append(len(image.data))
            image.add(NOPS[6])
    if call_orig:
        _give_args(image, layout, nr_words)
        image.call(func_addr + PATCH_BYTES)
        image.add(_store(-8, RAX), NOP5)
    if fmod_ret:
        image.align()
        for at in branches:
            image.data[at : at + 6] = branch_to(JNE, base + at, base + len(image.data))
    _invoke(image, layout, fexit, save_ret=False)
    if call_orig:
        image.add(mov_imm(RDI, im_addr))
        image.call(tramp_exit)
        image.add(_load(RAX, -8))
    else:
        for number in range(min(nr_words, len(ARG_REGS))):
            image.add(_load(ARG_REGS[number], -layout.regs_off + 8 * number))
    image.add(_load(RBX, -layout.rbx_off), LEAVE)
    if call_orig:
        # past the address in the function that the trampoline was called from
        image.add(insn("add_imm", RSP, imm=8))
    image.add(RET)
    return bytes(image.data)


def prepare_indirect(model: FuncModel, link: ImageLink, base: int) -> bytes:
    """Return the code of a function that is a program (BPF_TRAMP_F_INDIRECT), called by its address.

    With a result (BPF_TRAMP_F_RET_FENTRY_RET) that is the program's. Arguments are in registers only.
    """
    nr_words, returns = model.nr_words, model.ret_size > 0
    layout = TrampolineLayout.of(nr_words, call_orig=returns, ip_arg=False)
    image = _Image(base)
    _prologue(image, layout, nr_words, 0)
    _invoke(image, layout, (link,), save_ret=returns)
    if returns:
        image.add(_load(RAX, -8))
    image.add(_load(RBX, -layout.rbx_off), LEAVE, RET)
    return bytes(image.data)
