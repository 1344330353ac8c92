"""Programs of the corpus as Linux 6.18 judged them for a task without CAP_PERFMON: verdict, log, rewritten program."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runner import Kernel, load_attr, masked, read_corpus, read_lines
from test_corpus import without_numbers

from ebpfsim.errnos import errno_name
from ebpfsim.errors import VerifierError
from ebpfsim.isa.insn import Insn
from ebpfsim.prog_dump import xlated_dump
from ebpfsim.verifier.env import Privileges
from ebpfsim.verifier.opcodes import CALL
from ebpfsim.verifier.verify import Verified, verify

CORPUS = Path(__file__).resolve().parents[1] / "data" / "corpus"
JUDGED = list(read_lines(CORPUS / "no-perfmon.jsonl.xz"))
MAY = Privileges(bpf_capable=True, allow_ptr_leaks=False, bypass_spec=False)
# the maps of the recorded run had no names, and its verifier took another time
_UNLIKE = re.compile(r"map=[^,)]*,|verification time .*")


def judge(record: dict[str, Any]) -> tuple[str, str, Verified | None]:
    kernel = Kernel(record)
    for map_ in kernel.maps:
        map_.bypass_spec = False
    try:
        verified = verify(replace(load_attr(record, 2 | 4), privileges=MAY), kernel)
    except VerifierError as error:
        return errno_name(error.errno), error.log, None
    return "", verified.log, verified


def without_places(code: bytes) -> list[Insn]:
    """Return instructions without where the kernel's functions are."""
    return [insn._replace(imm=0) if insn.code == CALL and not insn.src else insn for insn in without_numbers(code)]


@pytest.mark.slow
def test_all_is_as_on_linux() -> None:
    records = {record["id"]: record for record in read_corpus(CORPUS / "verifier-open.jsonl.xz")}
    wrong, rewritten = [], 0
    for judged in JUDGED:
        errno, log, verified = judge(records[judged["id"]])
        if errno != judged.get("errno", "") or (verified is None) != (judged["verdict"] == "reject"):
            wrong.append((judged["id"], "verdict"))
        elif _UNLIKE.sub("", masked(log)) != _UNLIKE.sub("", masked(judged["log"])):
            wrong.append((judged["id"], "log"))
        elif verified is not None:
            shown: Any = SimpleNamespace(shown=verified.xlated, maps=verified.maps)
            rewritten += 1
            if without_places(xlated_dump(shown)) != without_places(bytes.fromhex(judged["xlated"])):
                wrong.append((judged["id"], "xlated"))
    assert not wrong
    assert (len(JUDGED), rewritten) == (669, 276)
