"""Programs of objects that call functions of the kernel, and what Linux 6.18 said to each (``objects/record.py``)."""

import re
from pathlib import Path
from typing import Any

from runner import masked, read_corpus, run

from ebpfsim.errnos import Errno

ANSWERS = Path(__file__).resolve().parents[1] / "data" / "verifier" / "objects.jsonl.xz"
LOG_LEVEL = 2 | 4
# functions and types of the kernel have other numbers in the BTF of other builds
_NUMBERS = re.compile(r"((?:call|kfunc|function) \w+)#\d{4,}")
_TYPES = re.compile(r"\(18\) (r\d) = 0x\w+( *; R\d=\d+)?")
_BTF_ID = re.compile(r"btf_id \d+")


def same_text(log: str) -> str:
    """Return a log without addresses, BTF ids and time."""
    text = _TYPES.sub(r"(18) \1 = N", _NUMBERS.sub(r"\1#N", masked(log)))
    text = _BTF_ID.sub("btf_id N", text)
    text = re.sub(r"verification time .*\n", "", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def read_answers() -> list[dict[str, Any]]:
    """Return the records."""
    return read_corpus(ANSWERS)


def answer(record: dict[str, Any]) -> tuple[int, str]:
    """Return errno (0 when it is accepted) and log that the verifier gives to a record."""
    outcome = run(record, LOG_LEVEL)
    assert outcome.verdict != "not modelled", outcome.detail
    return int(Errno[outcome.errno]) if outcome.errno else 0, same_text(outcome.log)
