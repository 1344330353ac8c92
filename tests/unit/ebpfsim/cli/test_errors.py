"""Errors in words: long verifier logs are cut from the front, where the reason is not."""

from ebpfsim.cli.errors import LOG_LINES, describe, exit_code
from ebpfsim.errors import AsmError, BtfError, DecodeError, InputError, NotModelled, ScenarioError, VerifierError
from ebpfsim.scenario.document import compose
from ebpfsim.scenario.source import Source


def test_long_log_shows_its_end() -> None:
    log = "\n".join(f"line {number}" for number in range(100))
    lines = describe(VerifierError("load program 'p'", 22, log)).splitlines()
    assert lines[0] == "error: load program 'p': refused by the verifier (EINVAL)"
    assert lines[1] == f"  ({100 - LOG_LINES} lines omitted)"
    assert lines[-1] == "  line 99"
    assert len(lines) == LOG_LINES + 2


def test_refusals_show_the_line_that_led_to_them() -> None:
    error = NotModelled("hook 'kprobe'")
    compose(Source("x.yaml", "hook: kprobe\n")).find(("hook",)).locate(error)
    assert describe(error) == "x.yaml:1:7: error: not modelled: hook 'kprobe'\n    hook: kprobe\n          ^^^^^^"


def test_every_wrong_input_exits_with_2() -> None:
    for kind in (InputError, AsmError, DecodeError, BtfError, ScenarioError):
        assert exit_code(kind("x", "y")) == 2
