"""Iterators, dynptrs, lists, trees, kptrs, timers, sections: errno and the log, line by line, are those of Linux."""

import pytest
from kernel_functions import answer, read_answers, same_text

RECORDS = read_answers()
NAMES = sorted({record["id"].split("/")[0] for record in RECORDS})


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_the_kernels(name: str) -> None:
    for record in RECORDS:
        if record["id"].split("/")[0] == name:
            assert answer(record) == (record["errno"], same_text(record["log"])), record["id"]
