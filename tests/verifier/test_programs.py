"""The verifier against what a Linux 6.18 kernel said to hundreds of short programs: errno and every line of the log."""

from typing import Any

import pytest
from programs import answer, read_programs, same_text

RECORDS = read_programs()


@pytest.mark.parametrize("number", range(0, len(RECORDS), 100))
def test_every_answer_is_the_kernels(number: int) -> None:
    wrong: list[dict[str, Any]] = []
    for record in RECORDS[number : number + 100]:
        errno, log = answer(record)
        if (errno, log) != (record["errno"], same_text(record["log"])):
            wrong.append({"text": record["text"], "want": record["log"], "got": log})
    assert not wrong, wrong[0]
