"""Programs of the corpus that Linux 6.18 accepted, run through bpf(2): return values and packets are what it gave."""

from collections import Counter
from pathlib import Path

import pytest
from runner import read_corpus
from through_bpf import Through

import ebpfsim
from ebpfsim.errors import NotModelled

CORPUS = Path(__file__).resolve().parents[1] / "data" / "corpus"
# runs that are not modelled: this number only gets smaller
NOT_MODELLED = 23
RECORDS = [record for record in read_corpus(CORPUS / "verifier-open.jsonl.xz") if record.get("runs")]
SYSCALL = 31


@pytest.mark.slow
def test_runs_end_as_on_linux() -> None:
    left_out, wrong = Counter[str](), []
    for record in RECORDS:
        try:
            through = Through(ebpfsim.Simulation(seed=1).host("h").bpf, record)
            for run in record["runs"]:
                retval, data_out = through.run(bytes.fromhex(run["data"]), record["prog_type"] == SYSCALL)
                if retval != run["retval"] or data_out.hex() != run.get("data_out", data_out.hex()):
                    wrong.append((record["id"], retval, run["retval"]))
            through.close()
        except NotModelled as error:
            left_out[error.feature] += len(record["runs"])
    assert not wrong
    assert sum(left_out.values()) <= NOT_MODELLED, left_out
