"""How much of a corpus of judged programs is answered as Linux answered: ``make scores`` prints the table.

``EBPFSIM_CORPUS`` names a folder with ``verifier-*.jsonl.xz`` and, beside it, ``logs-*.jsonl.xz``; else the corpus
of tests/data is taken, of which every score is to stay where it is: 100 %.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runner import compare, masked, read_corpus, read_lines, run
from test_corpus import without_numbers
from test_runs import differences

from ebpfsim.prog_dump import xlated_dump

OPEN = Path(__file__).resolve().parents[1] / "data" / "corpus"
CORPUS = Path(os.environ.get("EBPFSIM_CORPUS", OPEN))
# of programs that are too large Linux' logs were kept without the million states in their middle
TOO_LARGE = 1_000_000
SCORES = ("verdict", "message", "processed", "log1", "log2", "xlated", "runs")


def scored(record: dict[str, Any], logs: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield what a record is scored on, and whether it is as Linux had it."""
    outcome = run(record, 2 | 4)
    wrong = compare(record, outcome)
    yield "verdict", "verdict" not in wrong
    if outcome.verdict == "not modelled":
        yield "not modelled", True
    if outcome.verdict == "accept" and record["expect"]["verdict"] == "reject":
        yield "wrongly accepted", True
    if record["expect"]["verdict"] == "reject":
        yield "message", not {"verdict", "errno", "message"} & set(wrong)
    yield "processed", not {"verdict", "processed"} & set(wrong)
    if record["expect"]["insns_processed"] > TOO_LARGE:
        logs = {"xlated": logs.get("xlated")}
    if logs.get("log2"):
        yield "log2", masked(logs["log2"]) == masked(outcome.log)
    if logs.get("log1"):
        yield "log1", masked(logs["log1"]) == masked(run(record, 1 | 4).log)
    if outcome.verified is not None and logs.get("xlated"):
        shown: Any = SimpleNamespace(shown=outcome.verified.xlated, maps=outcome.verified.maps)
        theirs = without_numbers(bytes.fromhex(logs["xlated"]))
        yield "xlated", without_numbers(xlated_dump(shown)) == theirs
    if record.get("runs"):
        yield "runs", outcome.verdict == "accept" and not differences([record])


@pytest.mark.scores
@pytest.mark.parametrize("path", sorted(CORPUS.glob("verifier-*.jsonl.xz")), ids=lambda path: path.name)
def test_scores(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beside = path.with_name(path.name.replace("verifier-", "logs-"))
    logs = {record["id"]: record for record in read_lines(beside)} if beside.exists() else {}
    asked, right, worst = Counter[str](), Counter[str](), Counter[str]()
    for record in read_corpus(path):
        for score, equal in scored(record, logs.get(record["id"], {})):
            asked[score] += 1
            right[score] += equal
            if not equal:
                worst[f"{score}: {record['id'].rsplit('/', 1)[0]}"] += 1
    with capsys.disabled():
        print(f"\n{path.name}")
        for score in SCORES:
            if asked[score]:
                print(f"  {score:<18}{right[score]:6} of {asked[score]:6}  {100 * right[score] / asked[score]:6.1f} %")
        print(f"  not modelled {right['not modelled']}, wrongly accepted {right['wrongly accepted']}")
        for family, count in worst.most_common(20):
            print(f"  differs  {family}  {count}")
    if CORPUS == OPEN:
        assert right == asked
        assert not right["not modelled"]
