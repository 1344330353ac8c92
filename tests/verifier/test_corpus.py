"""The verifier against what a Linux 6.18 kernel said of the corpus: verdict, errno, reason, effort, every log line."""

from collections import Counter
from pathlib import Path

import pytest
from runner import compare, masked, read_corpus, read_lines, run

CORPUS = Path(__file__).resolve().parents[1] / "data" / "corpus"
# the verifier gives up after 1,000,000 instructions: walks that long are left to runs with -m bench
LONG_WALK = 100_000
# records whose constructs are not modelled: this number only gets smaller
NOT_MODELLED = 0

RECORDS = read_corpus(CORPUS / "verifier-open.jsonl.xz")
SHORT = [record for record in RECORDS if record["expect"]["insns_processed"] <= LONG_WALK]
LONG = [record for record in RECORDS if record["expect"]["insns_processed"] > LONG_WALK]


def _differences(record: dict, log_level: int, log: str | None) -> list[str] | None:  # type: ignore[type-arg]
    """Return what differs from the kernel, or None when the program is not modelled."""
    outcome = run(record, log_level)
    if outcome.verdict == "not modelled":
        return None
    wrong = compare(record, outcome)
    if log is not None and masked(log) != masked(outcome.log):
        wrong.append("log")
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize(("log_level", "name"), [(1 | 4, "log1"), (2 | 4, "log2")])
def test_every_answer_is_the_kernels(log_level: int, name: str) -> None:
    logs = {record["id"]: record.get(name) for record in read_lines(CORPUS / "logs-open.jsonl.xz")}
    wrong, families, left_out = {}, Counter[str](), 0
    for record in SHORT:
        found = _differences(record, log_level, logs.get(record["id"]))
        if found is None:
            left_out += 1
        elif found:
            wrong[record["id"]] = found
            families[record["id"].rsplit("/", 1)[0]] += 1
    assert not wrong, f"{dict(families)}: {wrong}"
    assert left_out <= NOT_MODELLED


@pytest.mark.long
@pytest.mark.parametrize("record", LONG, ids=lambda record: record["id"])
def test_limit_of_effort(record: dict) -> None:  # type: ignore[type-arg]
    assert not _differences(record, 0, None)
