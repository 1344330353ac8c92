"""Short programs in assembly with what a Linux 6.18 kernel said to them, replayed through the verifier.

A line of programs.jsonl.xz: ``text`` (instructions between semicolons; ``map_fd[n]`` is map n), ``prog_type``,
``maps`` (specs as in the corpus; ``inner`` is the number of an earlier map), what else the load had; ``attach`` is name
and kind of the type that ``attach_btf_id`` stands for; ``ksyms`` are slots with name and kind of a kernel symbol;
``errno`` and ``log`` (level 2 with statistics, masked).
"""

import re
from pathlib import Path
from typing import Any

from runner import FD_BASE, Kernel, masked, read_lines

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import Insn
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.flags import BPF_PSEUDO_BTF_ID
from ebpfsim.verifier.verify import LoadAttr, verify

PROGRAMS = Path(__file__).resolve().parents[1] / "data" / "verifier" / "programs.jsonl.xz"
# types have other numbers in the BTF of the kernel that was asked
_NUMBERS = re.compile(r"(btf_id|invalid btf_id) \d+|\(18\) r\d = 0x\w+")


def same_text(log: str) -> str:
    """Return a log without what differs between builds of one kernel."""
    return _NUMBERS.sub("N", masked(log))


def read_programs() -> list[dict[str, Any]]:
    """Return the records."""
    return list(read_lines(PROGRAMS))


def _with_fds(insns: tuple[Insn, ...]) -> tuple[Insn, ...]:
    return tuple(
        insn._replace(imm=FD_BASE + insn.imm) if insn.code == 0x18 and insn.src in (1, 2) else insn for insn in insns
    )


def _attach_id(attach: Any) -> int:
    if isinstance(attach, int):
        return attach
    name, kind = attach
    if isinstance(name, int):
        return name
    return vmlinux().by_name(name, Kind(kind))


def answer(record: dict[str, Any]) -> tuple[int, str]:
    """Return errno and log that the verifier gives to a record."""
    kernel = Kernel({"id": "c/program", "maps": record["maps"]})
    insns = list(_with_fds(assemble(record["text"].replace(";", "\n"))))
    for slot, name, kind in record.get("ksyms", ()):
        insns[slot] = insns[slot]._replace(src=BPF_PSEUDO_BTF_ID, imm=_attach_id([name, kind]))
    attr = LoadAttr(
        ProgType(record["prog_type"]),
        tuple(insns),
        license=record.get("license", "GPL"),
        expected_attach_type=record.get("expected_attach_type", 0),
        prog_flags=record.get("prog_flags", 0),
        attach_btf_id=_attach_id(record.get("attach", 0)),
        log_level=2 | 4,
    )
    try:
        return 0, same_text(verify(attr, kernel).log)
    except VerifierError as error:
        return error.errno, same_text(error.log)
