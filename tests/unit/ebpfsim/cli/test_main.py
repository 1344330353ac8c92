"""The command line as a whole: help, misspelt commands, exit codes, no tracebacks."""

import subprocess
import sys
from pathlib import Path

import pytest

from ebpfsim.cli import main
from ebpfsim.errors import ElfError, InternalError, KernelError, KernelOops, NotModelled, VerifierError


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in main.COMMANDS)


@pytest.mark.parametrize("name", list(main.COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: ebpfsim {name} ")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import ebpfsim

    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"ebpfsim {ebpfsim.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chekc"], "no such command 'chekc'; did you mean 'check'?"),
        (["run"], "Missing argument 'SCENARIO'"),
        (["run", "x", "--sed", "1"], "No such option"),
        (["run", "x", "--seed", "-1"], "is not in the range"),
        (["run", "x", "--until", "5"], "duration '5' is not understood; a number with ns, us, ms or s"),
        (["check"], "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err.replace("\n", " ")
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ElfError("x.o", "file is cut off", "build it again"), 2, "x.o: error: file is cut off\ntry: build it again\n"),
        (KernelError("close", 9, "fd 3"), 3, "y.yaml:3:5: error: close: Bad file descriptor (EBADF): fd 3\n"),
        (
            VerifierError("load program 'p'", 13, "0: (95) exit\nR0 !read_ok\nprocessed 1 insns"),
            3,
            "y.yaml:3:5: error: load program 'p': refused by the verifier (EACCES)\n"
            "  0: (95) exit\n  R0 !read_ok\n  processed 1 insns\n",
        ),
        (KernelOops("bad read", "p", 7), 3, "y.yaml:3:5: error: kernel oops: bad read in program 'p' at insn 7\n"),
        (NotModelled("hook 'kprobe'"), 4, "y.yaml:3:5: error: not modelled: hook 'kprobe'\n"),
        (
            InternalError("counts differ", 7),
            70,
            "y.yaml:3:5: internal error: counts differ; replay with seed 7\n"
            "please report this, with the scenario and the seed\n",
        ),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
    ],
)  # fmt: skip
def test_errors_have_their_exit_code(
    error: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if hasattr(error, "at"):
        error.at = "y.yaml:3:5"

    def fail(**_arguments: object) -> None:
        raise error

    monkeypatch.setattr(main.commands, "invoke", lambda _ctx: fail())
    assert main.run(["schema"]) == code
    captured = capsys.readouterr()
    assert captured.err == text
    assert captured.out == ""


def test_bug_of_ours_is_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_ctx: object) -> None:
        raise ZeroDivisionError("oh no")

    monkeypatch.setattr(main.commands, "invoke", fail)
    assert main.run(["run", "a b.yaml"]) == 70
    err = capsys.readouterr().err
    assert err.startswith("internal error: ZeroDivisionError: oh no in cli/test_main.py:")
    assert "to see it again: ebpfsim run 'a b.yaml'\n" in err
    assert "Traceback" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk_is_no_bug_of_ours() -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "ebpfsim", "scenarios"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (2, "error: output cannot be written: no space left on device\n")
