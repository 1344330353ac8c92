"""What the documents say is so: links lead somewhere, commands exist, examples run, differences are listed."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    sorted(ROOT.glob("*.md")) + sorted((ROOT / "scenarios").rglob("*.md")) + sorted((ROOT / "tests").rglob("*.md"))
)
PARITY = ROOT / "PARITY.md"
PACKAGES = ["ebpfsim", "hooks", "netstack", "tracing"]

_LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)(#[^)]*)?\)")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_MAKE = re.compile(r"\bmake ([a-z]+)\b")
_COMMAND = re.compile(r"\bebpfsim ([a-z]+)\b")
_SCENARIO = re.compile(r"\bscenarios/[\w/-]+\.yaml\b")


def blocks(document: Path, language: str) -> list[str]:
    return [text for kind, text in _BLOCK.findall(document.read_text()) if kind == language]


def code(document: Path) -> str:
    """Everything that a reader may copy: fenced blocks and text in backticks."""
    text = document.read_text()
    return "\n".join([body for _, body in _BLOCK.findall(text)] + re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    targets = [target for target, _ in _LINK.findall(document.read_text()) if "://" not in target]
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {target for document in DOCUMENTS for target in _MAKE.findall(code(document))}
    assert named <= targets
    assert {"demo", "test", "check"} <= named


def test_commands_that_are_named_exist() -> None:
    done = subprocess.run([sys.executable, "-m", "ebpfsim", "--help"], capture_output=True, text=True, check=True)
    known = set(re.findall(r"^  ([a-z]+) ", done.stdout, re.M))
    named = {command for document in DOCUMENTS for command in _COMMAND.findall(code(document))}
    assert named <= known
    assert "run" in named


def test_scenarios_that_are_named_exist() -> None:
    named = {name for document in DOCUMENTS for name in _SCENARIO.findall(document.read_text())}
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_readme_examples_in_python_run(tmp_path: Path) -> None:
    examples = blocks(ROOT / "README.md", "python")
    assert examples
    for example in examples:
        done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr


def test_examples_in_docstrings() -> None:
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        if ">>> " not in path.read_text():
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        assert doctest.testmod(importlib.import_module(name)).failed == 0, name


def differences() -> list[tuple[str, str]]:
    """Every comment or docstring that says ``Differs:``, with the module it is in."""
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if "Differs:" not in line:
                continue
            text = [line.partition("Differs:")[2].strip()]
            for following in lines[number + 1 :]:
                words = following.strip().lstrip("#").strip()
                commented = line.lstrip().startswith("#")
                if text[-1].endswith((".", '."""')) or not words or words.startswith(('"""', "def ", "class ")):
                    break
                if commented and not following.lstrip().startswith("#"):
                    break
                text.append(words)
            found.append((str(path.relative_to(ROOT)), " ".join(text).removesuffix('"""')))
    return found


def listed() -> str:
    """The list of differences as PARITY.md has it."""
    return "".join(f"- `{module}`: {text}\n" for module, text in differences())


def test_differences_from_linux_are_listed() -> None:
    """``python tests/test_docs.py`` writes the list anew."""
    assert listed() in PARITY.read_text()


if __name__ == "__main__":
    head, marker, rest = PARITY.read_text().partition("<!-- differs -->\n")
    tail = rest.partition("<!-- /differs -->\n")
    PARITY.write_text(head + marker + listed() + "".join(tail[1:]))
