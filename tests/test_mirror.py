"""Tests are where one looks for them: ``tests/unit/<package path>/test_<module>.py`` for every module of some size."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "tests" / "unit"
PACKAGES = ["ebpfsim", "hooks", "netstack", "tracing"]
SMALL_LINES = 40

# Modules without a test of their own, and what covers them. This list only gets shorter.
_WHOLE_PROGRAMS = "whole programs against what Linux says of them: tests/objects, tests/verifier, tests/differential"
TESTED_ELSEWHERE: dict[str, str] = {
    "ebpfsim/progs/runtime.py": "Protocols, and the record of one run: every test of a helper",
    "ebpfsim/recorder.py": "records without behaviour: every test of netstack and report",
    "ebpfsim/jit/text_listing.py": "listings of trampolines and dispatchers with names: test_kallsyms.py",
    "ebpfsim/test_run/tracing.py": "which functions a test run calls: tests/facts/test_trampolines.py",
    "tracing/rooms.py": "lists of modules: test_syscalls.py, test_functions.py",
    "tracing/fs.py": "what the rooms of files share: test_namei.py, test_open.py, test_read_write.py",
    "netstack/device.py": "what cards, loopback and tests derive from: test_nic.py, test_loopback.py, test_rx.py",
    "netstack/ip_output.py": "the way down of every packet: test_ipv4.py, test_icmp.py, test_udp.py",
    **{
        f"ebpfsim/verifier/{name}.py": _WHOLE_PROGRAMS
        for name in (
            *("args", "call", "cfg", "compat", "depth", "env", "fixup", "globals", "liveness"),
            *("log", "mem", "opcodes", "precision", "refs", "resolve", "stack", "state", "verify"),
        )
    },
    **{
        f"ebpfsim/verifier/ctx_{name}.py": "what test_ctx_convert.py converts"
        for name in ("convert_skb", "convert_sock", "steps")
    },
}


def place_of_test(source: Path) -> Path:
    """Return where the test of a source is; a package's ``__init__.py`` has it beside the package's folder."""
    relative = source.relative_to(ROOT)
    if relative.name == "__init__.py":
        relative = relative.parent
    return UNIT / relative.parent / f"test_{relative.stem.lstrip('_')}.py"


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def test_every_module_of_some_size_has_a_test() -> None:
    large = [path for path in sources() if len(path.read_text().splitlines()) > SMALL_LINES]
    missing = {str(path.relative_to(ROOT)) for path in large if not place_of_test(path).exists()}
    assert missing <= set(TESTED_ELSEWHERE), "add a test: " + ", ".join(sorted(missing - set(TESTED_ELSEWHERE)))


def test_exceptions_are_modules_that_exist() -> None:
    assert not [module for module in TESTED_ELSEWHERE if not (ROOT / module).exists()]


def test_every_unit_test_has_its_module() -> None:
    known = {place_of_test(path) for path in sources()}
    strays = [str(path.relative_to(ROOT)) for path in UNIT.rglob("test_*.py") if path not in known]
    assert not strays, "\n".join(sorted(strays))
