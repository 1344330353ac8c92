"""Programs of the corpus that Linux 6.18 accepted, run through bpf(2): return values and packets are what it gave."""

from pathlib import Path
from typing import Any

import pytest
from runner import read_corpus
from through_bpf import Through

import ebpfsim

CORPUS = Path(__file__).resolve().parents[1] / "data" / "corpus"
RECORDS = [record for record in read_corpus(CORPUS / "verifier-open.jsonl.xz") if record.get("runs")]
SYSCALL = 31
# in hex digits, 16 an instruction: two programs have a million instructions, one has 40,000
LARGE = 16 * 30_000


def differences(records: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Return the runs that end otherwise than they did on Linux: id, our value, theirs."""
    wrong = []
    for record in records:
        through = Through(ebpfsim.Simulation(seed=1).host("h").bpf, record)
        for run in record["runs"]:
            retval, data_out = through.run(bytes.fromhex(run["data"]), record["prog_type"] == SYSCALL)
            if retval != run["retval"] or data_out.hex() != run.get("data_out", data_out.hex()):
                wrong.append((record["id"], retval, run["retval"]))
        through.close()
    return wrong


@pytest.mark.slow
def test_runs_end_as_on_linux() -> None:
    assert not differences([record for record in RECORDS if len(record["insns"]) < LARGE])


@pytest.mark.long
def test_runs_of_large_programs_end_as_on_linux() -> None:
    assert not differences([record for record in RECORDS if len(record["insns"]) >= LARGE])
