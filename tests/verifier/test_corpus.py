"""The verifier against what a Linux 6.18 kernel said of the corpus: verdict, errno, reason, effort, every log line."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from runner import compare, masked, read_corpus, read_lines, run

from ebpfsim.isa.insn import Insn, decode
from ebpfsim.prog_dump import xlated_dump
from ebpfsim.uapi.flags import BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
from ebpfsim.verifier.explain import explain

LD_IMM64 = 0x18
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


def without_numbers(code: bytes) -> list[Insn]:
    """Return instructions without ids of maps, and without where the kernel allocated something."""
    insns = list(decode(code))
    for i, insn in enumerate(insns):
        if insn.code == LD_IMM64 and insn.src in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE):
            insns[i] = insn._replace(imm=0)
        elif insn.code == LD_IMM64 and insns[i + 1].imm >> 16 == -1:
            insns[i], insns[i + 1] = insn._replace(imm=0), Insn(0)
    return insns


@pytest.mark.slow
def test_rewritten_programs_are_the_kernels() -> None:
    theirs = {record["id"]: record.get("xlated") for record in read_lines(CORPUS / "logs-open.jsonl.xz")}
    wrong, compared = [], 0
    for record in SHORT:
        if record["expect"]["verdict"] != "accept" or not theirs.get(record["id"]):
            continue
        verified = run(record, 0).verified
        assert verified is not None
        ours = xlated_dump(SimpleNamespace(shown=verified.xlated, maps=verified.maps))  # type: ignore[arg-type]
        compared += 1
        if without_numbers(ours) != without_numbers(bytes.fromhex(theirs[record["id"]])):
            wrong.append(record["id"])
    assert not wrong
    assert compared > 350


def test_every_refusal_has_a_hint() -> None:
    refused = {record["id"] for record in RECORDS if record["expect"]["verdict"] == "reject"}
    logs = [
        log
        for record in read_lines(CORPUS / "logs-open.jsonl.xz")
        for log in (record.get("log1"), record.get("log2"))
        if record["id"] in refused and log
    ]
    assert len(logs) > 800
    assert [log[-200:] for log in logs if not explain(log).hint] == []


@pytest.mark.long
@pytest.mark.parametrize("record", LONG, ids=lambda record: record["id"])
def test_limit_of_effort(record: dict) -> None:  # type: ignore[type-arg]
    assert not _differences(record, 0, None)
