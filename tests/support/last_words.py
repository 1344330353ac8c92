"""The last line of the verifier's log of short XDP programs, from the simulator and from this machine's Linux.

A program is assembly with calls of kernel functions (``kfuncs``). ``map_fd[NAME]`` is a map: ``array`` and ``hash``
have values of 16 bytes, ``ring`` is a ring buffer, and a value of ``locked`` begins with a bpf_spin_lock, of ``timed``
with a bpf_timer, of ``kept`` with two kptrs to tasks, the first one untrusted. ``r2 = callback`` loads the address of
the function at the label ``callback:``, the program's last one.
"""

import re
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Any

from kfuncs import assemble_kfuncs

from ebpfsim import Simulation
from ebpfsim.btf import types as t
from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import VerifierError
from ebpfsim.isa.insn import Insn, encode
from ebpfsim.uapi.bpf import MapType, ProgType

__all__ = ["linux", "ours"]

INT, LOCKED, TIMED, KEPT, PROGRAM, CALLBACK = 1, 4, 5, 11, 13, 14
TYPES = (
    t.Int("int", 4, 32, encoding=t.INT_SIGNED),
    t.Struct("bpf_spin_lock", 4, (t.Member("val", INT, 0),)),
    t.Struct("bpf_timer", 16, (t.Member("opaque", INT, 0),)),
    t.Struct("locked", 16, (t.Member("lock", 2, 0), t.Member("x", INT, 32))),
    t.Struct("timed", 16, (t.Member("timer", 3, 0),)),
    t.Struct("task_struct", 0, ()),
    t.TypeTag("kptr_untrusted", 6),
    t.Ptr("", 7),
    t.TypeTag("kptr", 6),
    t.Ptr("", 9),
    t.Struct("kept", 16, (t.Member("stale", 8, 0), t.Member("task", 10, 64))),
    t.FuncProto("", INT, ()),
    t.Func("program", 12, t.FUNC_STATIC),
    t.Func("callback", 12, t.FUNC_STATIC),
)
MAPS = {
    "array": (MapType.ARRAY, 4, 16, 0),
    "hash": (MapType.HASH, 4, 16, 0),
    "ring": (MapType.RINGBUF, 0, 0, 0),
    "locked": (MapType.ARRAY, 4, 16, LOCKED),
    "timed": (MapType.ARRAY, 4, 16, TIMED),
    "kept": (MapType.ARRAY, 4, 16, KEPT),
}
_PLACEHOLDER = 123_456_789


def ours(text: str) -> str:
    """Return the simulator's answer."""
    return _answer(Simulation(seed=1).host("h").bpf, text, vmlinux())


def linux(text: str) -> str:
    """Return this machine's answer."""
    from ebpfsim.live import Bpf

    return _answer(Bpf(), text, _running())


@cache
def _running() -> Btf:
    return Btf(Path("/sys/kernel/btf/vmlinux").read_bytes())


def _answer(bpf: Any, text: str, btf: Btf) -> str:
    btf_fd = bpf.btf_load(encode_types(TYPES))
    fds = [btf_fd]
    maps: dict[str, int] = {}

    def create(match: re.Match[str]) -> str:
        name = match[1]
        if name not in maps:
            kind, key, value, type_id = MAPS[name]
            entries = 4096 if kind is MapType.RINGBUF else 2
            typed = {"btf_fd": btf_fd, "btf_key_type_id": INT, "btf_value_type_id": type_id} if type_id else {}
            maps[name] = bpf.map_create(kind, key, value, entries, name=name, **typed)
            fds.append(maps[name])
        return f"map_fd[{maps[name]}]"

    try:
        text = re.sub(r"map_fd\[(\w+)\]", create, text)
        insns, starts = _with_callback(text, btf)
        info = b"".join(Struct("<II").pack(start, PROGRAM + number) for number, start in enumerate(starts))
        loaded = bpf.prog_load(ProgType.XDP, encode(insns), prog_btf_fd=btf_fd, func_info=info, log_level=2)
        fds.append(loaded.fd)
    except VerifierError as error:
        return re.sub(r"#\d{4,}", "", error.reason)
    finally:
        for fd in fds:
            bpf.close(fd)
    return "accepted"


def _with_callback(text: str, btf: Btf) -> tuple[list[Insn], list[int]]:
    main, _, callback = text.partition("callback:")
    main = re.sub(r"(r\d) = callback", rf"\1 = {_PLACEHOLDER} ll", main)
    insns = list(assemble_kfuncs(main.replace(";", "\n"), btf))
    starts = [0, len(insns)] if callback else [0]
    for at, insn in enumerate(insns):
        if insn.code == 0x18 and insn.imm == _PLACEHOLDER:
            insns[at] = insn._replace(src=4, imm=len(insns) - at - 1)
    return insns + list(assemble_kfuncs(callback.replace(";", "\n"), btf)), starts
