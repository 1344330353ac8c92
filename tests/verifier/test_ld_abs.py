"""Packet loads (LD_ABS, LD_IND): the verifier and the one of this machine's kernel write the same log, line by line."""

import os
import struct
from typing import Any

import pytest
from runner import FD_BASE, Kernel, masked

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import Func, FuncProto, Int, Ptr, Type
from ebpfsim.errnos import Errno
from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.isa.table import BY_NAME, Form, find
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.verifier.verify import LoadAttr, Verified, verify

SOCKET, CLS, ACT, XDP = ProgType.SOCKET_FILTER, ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.XDP
STATIC = 0  # BTF_FUNC_STATIC
MAPS = [
    {"type": MapType.RINGBUF, "key": 0, "value": 0, "max": 4096, "name": "rb"},
    {"type": MapType.ARRAY, "key": 4, "value": 16, "max": 4, "name": "arr"},
]
LOAD = "r0 = *(u8 *)skb[0]"
RESERVE = "r1 = map_fd[{0}] ll; r2 = 8; r3 = 0; call bpf_ringbuf_reserve; if r0 == 0 goto o; r7 = r0"
# name, type, program, what the functions behind the first return, errno, a part of the log
CASES: list[tuple[str, ProgType, str, list[str], int, str]] = [
    ("a constant offset", SOCKET, "r6 = r1; r0 = *(u16 *)skb[12]; exit", [], 0, "R0=scalar()"),
    ("traffic control", CLS, "r6 = r1; r0 = *(u32 *)skb[26]; exit", [], 0, "R0=scalar()"),
    ("an action", ACT, "r6 = r1; r7 = 3; r0 = *(u32 *)skb[r7 + 26]; exit", [], 0, "R0=scalar()"),
    ("an offset from r0 to r5", SOCKET, "r6 = r1; r2 = 3; r0 = *(u8 *)skb[r2]; exit", [], 0, ""),
    ("a pointer as the offset", SOCKET, "r6 = r1; r0 = *(u8 *)skb[r6]; exit", [], 0, ""),
    ("XDP", XDP, f"r6 = r1; {LOAD}; exit", [], Errno.EINVAL, "not allowed for this program type"),
    ("no context", SOCKET, f"{LOAD}; exit", [], Errno.EACCES, "R6 !read_ok"),
    ("a number in r6", SOCKET, f"r6 = 0; {LOAD}; exit", [], Errno.EINVAL, "R6 != pointer to skb"),
    ("the stack in r6", SOCKET, f"r6 = r10; {LOAD}; exit", [], Errno.EINVAL, "R6 != pointer to skb"),
    ("a moved context", SOCKET, f"r6 = r1; r6 += 8; {LOAD}; exit", [], Errno.EACCES, "dereference of modified ctx ptr"),
    ("an unread offset", SOCKET, "r6 = r1; r0 = *(u8 *)skb[r7]; exit", [], Errno.EACCES, "R7 !read_ok"),
    ("r1 is gone", SOCKET, f"r6 = r1; {LOAD}; r0 = *(u32 *)(r1 +0); exit", [], Errno.EACCES, "R1 !read_ok"),
    ("r5 is gone", SOCKET, f"r6 = r1; r5 = 1; {LOAD}; r0 = r5; exit", [], Errno.EACCES, "R5 !read_ok"),
    ("r7 stays", SOCKET, f"r6 = r1; r7 = 1; {LOAD}; r0 = r7; exit", [], 0, ""),
    ("a byte is below 256, which nobody knows", SOCKET,
     f"r6 = r1; {LOAD}; r1 = r10; r1 -= 256; r1 += r0; r0 = 0; *(u8 *)(r1 +0) = 1; exit", [], Errno.EACCES, "R1"),
    ("only the low half is defined", SOCKET, f"r6 = r1; {LOAD}; w1 = w0; r0 = r1; exit", [], 0, ""),
    ("twice", SOCKET, f"r6 = r1; {LOAD}; r7 = r0; {LOAD}; r0 += r7; exit", [], 0, ""),
    ("in a loop", SOCKET,
     "r6 = r1; r7 = 0; r8 = 0; l: r0 = *(u8 *)skb[r7]; r8 += r0; r7 += 1; if r7 < 5 goto l; r0 = r8; exit", [], 0, ""),
    ("a reference held", CLS, f"r6 = r1; {RESERVE}; {LOAD}; r1 = r7; r2 = 0; call bpf_ringbuf_discard; o: r0 = 0; exit",
     [], Errno.EINVAL, "BPF_LD_[ABS|IND] would lead to reference leak"),
    ("a reference given back", CLS,
     f"r6 = r1; {RESERVE}; r1 = r7; r2 = 0; call bpf_ringbuf_discard; {LOAD}; o: r0 = 0; exit", [], 0, ""),
    ("a function without BTF", SOCKET, f"r6 = r1; call f; exit; f: r6 = r1; {LOAD}; exit", [], Errno.EINVAL,
     "LD_ABS is not allowed in subprogs without BTF"),
    ("the main function beside one without BTF", SOCKET, f"r6 = r1; {LOAD}; call f; exit; f: r0 = 1; exit", [], 0, ""),
    ("a function that returns int", CLS, f"call f; exit; f: r6 = r1; {LOAD}; exit", ["int"], 0, ""),
    ("a function that may end early", CLS,
     f"call f; if r0 == 0 goto z; exit; z: r0 = *(u8 *)(r10 -600); exit; f: r6 = r1; {LOAD}; r0 = 1; exit", ["int"],
     Errno.EACCES, "invalid read from stack"),
    ("a function that returns nothing", CLS, f"call f; r0 = 0; exit; f: r6 = r1; {LOAD}; exit", ["void"], Errno.EINVAL,
     "LD_ABS is only allowed in functions that return 'int'."),
    ("a function that returns a pointer", CLS, f"call f; r0 = 0; exit; f: r6 = r1; {LOAD}; exit", ["pointer"],
     Errno.EINVAL, "LD_ABS is only allowed in functions that return 'int'."),
    ("two functions deep", CLS,
     f"call f; exit; f: call g; r0 += 1; exit; g: r6 = r1; {LOAD}; r0 = *(u16 *)skb[2]; exit", ["int", "int"], 0, ""),
]  # fmt: skip
FIELDS = [
    ("ld_abs.u8", {"dst": 1}), ("ld_abs.u8", {"src": 1}), ("ld_abs.u8", {"off": 1}), ("ld_ind.u16", {"dst": 2}),
    ("ld_ind.u16", {"off": -1}), ("ld_ind.u32", {"src": 10}), ("ld_abs.u32", {"imm": -1}), ("ld_ind.u8", {"src": 11}),
]  # fmt: skip


def functions(kinds: list[str], starts: list[int]) -> tuple[bytes, bytes]:
    """BTF and func_info of a program whose functions, but for the first, return what ``kinds`` says."""
    types: list[Type] = [Int("int", 4, 32, encoding=1), Ptr("", 1)]
    returns = {"int": 1, "void": 0, "pointer": 2}
    info = b""
    for number, (kind, start) in enumerate(zip(["int", *kinds], starts, strict=True)):
        types += [FuncProto("", returns[kind], ()), Func(f"f{number}", len(types) + 1, STATIC)]
        info += struct.pack("<II", start, len(types))
    return encode_types(types), info


def starts_of(insns: tuple[Insn, ...]) -> list[int]:
    rows = [find(insn) for insn in insns]
    called = {at + 1 + insns[at].imm for at, row in enumerate(rows) if row is not None and row.form is Form.CALL_LOCAL}
    return [0, *sorted(called)]


def ours(prog_type: ProgType, insns: tuple[Insn, ...], kinds: list[str]) -> Verified:
    kernel = Kernel({"id": "c/ld_abs", "maps": MAPS})
    attr: dict[str, Any] = {}
    if kinds:
        btf, attr["func_info"] = functions(kinds, starts_of(insns))
        attr["btf"] = Btf(btf)
    return verify(LoadAttr(prog_type, insns, log_level=2, **attr), kernel)


def said(load: Any) -> tuple[int, str]:
    try:
        return 0, masked(load().log)
    except VerifierError as error:
        return error.errno, masked(error.log)


def with_maps(text: str, fds: list[int]) -> tuple[Insn, ...]:
    return assemble(text.replace("{0}", str(fds[0])))


@pytest.mark.parametrize(("name", "prog_type", "text", "kinds", "errno", "log"), CASES, ids=[case[0] for case in CASES])
def test_verdicts(name: str, prog_type: ProgType, text: str, kinds: list[str], errno: int, log: str) -> None:
    found = said(lambda: ours(prog_type, with_maps(text, [FD_BASE]), kinds))
    assert found[0] == errno, found[1]
    assert log in found[1]


@pytest.fixture(scope="module")
def linux() -> Any:
    """This machine's kernel with its maps; gives errno and log."""
    from ebpfsim.live import Bpf

    bpf = Bpf()
    fds = [bpf.map_create(m["type"], m["key"], m["value"], m["max"], name=m["name"]) for m in MAPS]

    def load(prog_type: ProgType, insns: tuple[Insn, ...], kinds: list[str]) -> Any:
        attr: dict[str, Any] = {}
        if kinds:
            btf, attr["func_info"] = functions(kinds, starts_of(insns))
            attr["prog_btf_fd"] = bpf.btf_load(btf)
        try:
            loaded = bpf.prog_load(prog_type, encode(insns), log_level=2, **attr)
            os.close(loaded.fd)
        finally:
            if kinds:
                os.close(attr["prog_btf_fd"])
        return loaded

    yield load, fds
    for fd in fds:
        os.close(fd)


@pytest.mark.live
@pytest.mark.parametrize(
    ("name", "prog_type", "text", "kinds"), [case[:4] for case in CASES], ids=[c[0] for c in CASES]
)
def test_linux_says_the_same(linux: Any, name: str, prog_type: ProgType, text: str, kinds: list[str]) -> None:
    load, fds = linux
    expected = said(lambda: load(prog_type, with_maps(text, fds), kinds))
    assert said(lambda: ours(prog_type, with_maps(text, [FD_BASE]), kinds)) == expected


@pytest.mark.live
@pytest.mark.parametrize(("name", "fields"), FIELDS)
def test_reserved_fields(linux: Any, name: str, fields: dict[str, int]) -> None:
    load = BY_NAME[name].insn()._replace(src=7 if "ind" in name else 0)._replace(**fields)
    code = (*assemble("r6 = r1; r7 = 0; r1 = 0"), load, *assemble("exit"))
    assert said(lambda: ours(SOCKET, code, [])) == said(lambda: linux[0](SOCKET, code, []))
