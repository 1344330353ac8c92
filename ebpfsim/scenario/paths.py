"""Which files a scenario may read: those of its own folder, and the programs that ship.

A path is relative to the scenario's folder and must stay inside, symbolic links followed; a path that begins with
``bpf/`` and is not there is looked up among the objects that ship with ebpfsim. Nothing else is ever opened, so a
scenario from a stranger reads no other file.
"""

import errno
import os
import stat
from pathlib import Path, PurePosixPath

from ebpfsim.scenario.shipped import shipped_folder
from ebpfsim.scenario.source import shown
from ebpfsim.suggest import did_you_mean

__all__ = ["PathProblem", "locate"]

MAX_FILE_BYTES = 64 * 1024 * 1024
SHIPPED_PREFIX = "bpf"
# more than any name below a scenario's folder needs; PATH_MAX, include/uapi/linux/limits.h, is 4096
MAX_CHARS = 1024


class PathProblem(Exception):
    """A path is not allowed, or there is nothing to read."""

    def __init__(self, problem: str, hint: str = "") -> None:
        self.problem, self.hint = problem, hint
        super().__init__(problem, hint)


def locate(folder: Path, text: str, what: str = "file") -> Path:
    """Return the readable regular file that a scenario in ``folder`` means by ``text``; PathProblem otherwise."""
    if len(text) > MAX_CHARS:
        raise PathProblem(f"{what} {shown(text)} is not a path: it has {len(text)} characters")
    hint = "a path inside the scenario's folder, as in bpf/firewall.bpf.o"
    if not text or "\0" in text or "\\" in text:
        raise PathProblem(f"{what} '{text}' is not a path", hint)
    relative = PurePosixPath(text)
    if relative.is_absolute() or text.startswith("~"):
        raise PathProblem(f"{what} '{text}' is an absolute path", hint)
    if ".." in relative.parts:
        raise PathProblem(f"{what} '{text}' leads out of the scenario's folder", hint)
    found = _inside(folder, relative, text, what)
    shipped = shipped_folder()
    if found is None and shipped is not None and relative.parts[:1] == (SHIPPED_PREFIX,):
        found = _inside(shipped, relative, text, what)
    if found is None and (folder / relative).is_symlink():
        raise PathProblem(f"{what} '{text}' is a link to nothing")
    if found is None:
        raise PathProblem(f"{what} {shown(text)} does not exist{_near(folder, relative)}")
    _check_readable(found, text, what)
    return found


def _inside(folder: Path, relative: PurePosixPath, text: str, what: str) -> Path | None:
    try:
        root = folder.resolve()
        found = (root / relative).resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, RuntimeError) as error:  # a name too long, links in a circle
        raise PathProblem(f"{what} '{text}' cannot be opened: {_reason(error)}") from None
    if not found.is_relative_to(root):
        raise PathProblem(f"{what} '{text}' is a link out of the scenario's folder", "copy the file into the folder")
    return found


def _check_readable(path: Path, text: str, what: str) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise PathProblem(f"{what} '{text}' is a folder, expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise PathProblem(f"{what} '{text}' is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise PathProblem(f"{what} '{text}' has {status.st_size} bytes, at most {MAX_FILE_BYTES} are read")
    if not os.access(path, os.R_OK):
        raise PathProblem(f"{what} '{text}' is not readable", "check its permissions")


def _near(folder: Path, relative: PurePosixPath) -> str:
    # names beside the missing file, here and among the shipped objects
    names: set[str] = set()
    for root in (folder, shipped_folder()):
        if root is not None and (root / relative.parent).is_dir():
            names |= {entry.name for entry in (root / relative.parent).iterdir() if not entry.name.startswith(".")}
    return did_you_mean(relative.name, names)


def _reason(error: Exception) -> str:
    # links in a circle: RuntimeError before Python 3.13, ELOOP from there on
    if isinstance(error, OSError) and error.errno != errno.ELOOP:
        return (error.strerror or "unknown reason").lower()
    return "links lead in a circle"
