"""Context accesses as Linux 6.18 rewrites them: the answers in data/ctx_xlated.txt came from BPF_OBJ_GET_INFO_BY_FD."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import ebpfsim
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.disasm import disasm_all
from ebpfsim.isa.insn import Insn, decode, encode
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.env import LoadAttr
from ebpfsim.verifier.verify import verify

ANSWERS = Path(__file__).parents[3] / "data" / "ctx_xlated.txt"


def _cases() -> list[tuple[str, int, str, str]]:
    cases = []
    for line in ANSWERS.read_text().splitlines():
        if not line.startswith("#"):
            head, program, rewritten = line.split(" => ")
            prog_type, attach_type = head.split()
            cases.append((prog_type, int(attach_type), program, rewritten))
    return cases


def text(insns: Sequence[Insn]) -> str:
    """Return the text of a program; the numbers of helpers, which Linux replaces, are left out."""
    return re.sub(r"call \S+#-?\d+", "call", "; ".join(line for _, line in disasm_all(insns)))


@pytest.mark.parametrize("prog_type", sorted({case[0] for case in _cases()}))
def test_rewritten_as_linux_does(prog_type: str) -> None:
    kernel = ebpfsim.Simulation(seed=1).host("h").kernel
    differing = []
    for name, attach_type, program, want in _cases():
        if name == prog_type:
            attr = LoadAttr(ProgType[name], assemble(program), expected_attach_type=attach_type, log_level=0)
            got = text(verify(attr, kernel).insns)
            if got != want:
                differing.append((program, want, got))
    assert not differing


@pytest.mark.live
@pytest.mark.parametrize("number", range(0, len(_cases()), 25))
def test_linux_still_rewrites_so(number: int) -> None:
    from ebpfsim.live import Bpf

    prog_type, attach_type, program, want = _cases()[number]
    bpf, slots = Bpf(), encode(assemble(program))
    loaded = bpf.prog_load(ProgType[prog_type], slots, license="GPL", expected_attach_type=attach_type)
    data = bpf.obj_get_info_by_fd(loaded.fd).xlated_prog_insns
    bpf.close(loaded.fd)
    assert text(decode(data)) == want
