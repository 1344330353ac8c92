"""What users see is stored as text in ``golden/``: a difference is a decision, and goes into CHANGELOG.md.

After a decision: ``python tests/cli/test_golden.py``. Figures that belong to the cost profile, and the digest, are
left out: they have tests of their own. Help texts are click's, which words them anew now and then.
"""

import contextlib
import io
import os
import re
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parent / "golden"
ROOT = Path(__file__).resolve().parents[2]

# name -> the command; all run in this folder
COMMANDS = {
    "misspelt-command": ["rnu"],
    "missing-file": ["run", "xdp-firewal"],
    "wrong-scenario": ["check", "wrong.yaml"],
    "not-modelled": ["check", "later.yaml"],
    "run-firewall": ["run", "first-steps/xdp-firewall"],
    "run-unmet": ["run", "first-steps/xdp-firewall", "--set", "maps.fw/blocked={}"],
    "run-rejected": ["run", "failures/rejected-program", "--set", "expect=[]"],
}
SCRUBBED = (
    (re.compile(r"sha256:[0-9a-f]{64}"), "sha256:..."),
    (re.compile(r"ended at .*"), "ended at ..."),
    (re.compile(r"( +\d+\.\d+){2}$", re.M), " ..."),
    (re.compile(r"the verifier walked \d+"), "the verifier walked ..."),
)


def outcome(arguments: list[str]) -> str:
    """Return exit code and both outputs of a command as one text."""
    from ebpfsim.cli.main import run

    out, err = io.StringIO(), io.StringIO()
    here = Path.cwd()
    os.chdir(GOLDEN)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(arguments)
    finally:
        os.chdir(here)
    text = f"$ ebpfsim {' '.join(arguments)}\n{out.getvalue()}"
    if err.getvalue():
        text += f"--- standard error\n{err.getvalue()}"
    for pattern, words in SCRUBBED:
        text = pattern.sub(words, text)
    return f"{text}--- exit code {code}\n"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_output_is_what_is_stored(name: str) -> None:
    assert outcome(COMMANDS[name]) == (GOLDEN / f"{name}.txt").read_text()


def test_nothing_is_stored_that_is_not_tested() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(COMMANDS)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for name, arguments in COMMANDS.items():
        (GOLDEN / f"{name}.txt").write_text(outcome(arguments))
