"""Errors on their way to the user: in words, with the place, and the exit code that goes with them."""

import shlex
import traceback

from ebpfsim.errors import (
    EbpfSimError,
    InputError,
    InternalError,
    KernelError,
    KernelOops,
    NotModelled,
    ScenarioError,
    VerifierError,
)

__all__ = ["INTERRUPTED", "USAGE", "describe", "describe_bug", "describe_warning", "exit_code"]

UNMET, USAGE, REFUSED, NOT_MODELLED, OUR_BUG, INTERRUPTED = 1, 2, 3, 4, 70, 130

# the first class that fits counts
EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (InputError, USAGE),
    (KernelError, REFUSED),
    (KernelOops, REFUSED),
    (NotModelled, NOT_MODELLED),
    (BaseException, OUR_BUG),
)
# how much of a verifier log is shown
LOG_LINES = 12


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def describe(error: EbpfSimError) -> str:
    """Return an error in words: where in the scenario, what, and for the verifier the end of its log."""
    if isinstance(error, InputError):
        return str(error)
    where = f"{error.at}: " if error.at else ""
    line = f"\n{error.at_line}" if error.at_line else ""
    if isinstance(error, VerifierError):
        lines = error.log.splitlines()
        omitted = f"  ({len(lines) - LOG_LINES} lines omitted)\n" if len(lines) > LOG_LINES else ""
        log = "\n".join(f"  {line}" for line in lines[-LOG_LINES:])
        return f"{where}error: {error.op}: refused by the verifier ({error.errno_name}){line}\n{omitted}{log}"
    if isinstance(error, InternalError):
        return f"{where}{error}\nplease report this, with the scenario and the seed"
    return f"{where}error: {error}{line}"


def describe_warning(warning: ScenarioError) -> str:
    """Return what is odd but no error in words, as an error is shown."""
    return str(warning).replace(": error: ", ": warning: ", 1)


def describe_bug(error: BaseException, arguments: list[str]) -> str:
    """Return an unexpected exception in words: what it was, where in our code, how to see it again."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    place = ""
    if frames:
        module = frames[-1].filename.replace("\\", "/").split("/")[-2:]
        place = f" in {'/'.join(module)}:{frames[-1].lineno}"
    command = shlex.join(["ebpfsim", *arguments])
    return (
        f"internal error: {type(error).__name__}: {error}{place}\n"
        f"this is a bug of ebpfsim; to see it again: {command}\n"
        "please report it with that command and its files"
    )
