"""Who may import whom: the floors of ARCHITECTURE.md, and the libraries that have one place each."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MACHINE = {"environ", "getenv", "urandom"}
SUSPICIOUS = re.compile(r"\b(id|hash)\(|os\.(environ|getenv|urandom)")
PACKAGES = ["ebpfsim", "hooks", "netstack", "tracing"]

# Rooms from the ground up. A module imports from its own room and from those on lower lines.
FLOORS: list[tuple[str, list[str]]] = [
    (
        "ground",
        [
            *("errors", "errnos", "config", "clock", "rng", "costs", "cpu", "task", "objects", "recorder"),
            *("collector", "memory", "uapi", "_siblings"),
        ],
    ),
    ("isa", ["isa"]),
    ("btf", ["btf"]),
    ("elf", ["elf"]),
    ("maps", ["maps"]),
    ("progs", ["progs"]),
    ("helpers", ["helpers"]),
    ("verifier", ["verifier"]),
    ("vm", ["vm"]),
    ("jit", ["jit"]),
    ("hooks", []),
    ("tracing", []),
    ("netstack", []),
    ("top", []),
]
RANK = {floor: rank for rank, (floor, _) in enumerate(FLOORS)}
ROOM_OF = {f"ebpfsim.{name}": floor for floor, names in FLOORS for name in names}
# elf parses files: it sees no maps, programs or kernels, and nothing in the core sees elf
ELF_SEES = {"ground", "isa", "btf", "elf"}
SEES_ELF = {"elf", "top"}

# A library and the only modules that may import it (a package stands for all that is in it).
HOMES: dict[str, list[str]] = {
    "simpy": ["ebpfsim.clock", "netstack"],
    "yaml": ["ebpfsim.scenario"],
    "scapy": [
        *("ebpfsim.simulation", "ebpfsim.frames", "ebpfsim.scenario", "ebpfsim.report", "ebpfsim.cli"),
        *("ebpfsim.pytest_plugin", "netstack.pcap"),
    ],
    "networkx": ["ebpfsim.cli", "ebpfsim.report", "ebpfsim.auto_routes", "ebpfsim.scenario.networks"],
    "pcapng": ["ebpfsim.report", "netstack.pcap"],
    "capstone": ["ebpfsim.jit.listing", "ebpfsim.jit.text_listing"],
    "pydantic": ["ebpfsim.scenario", "ebpfsim.cli"],
    "click": ["ebpfsim.cli"],
    "rich": ["ebpfsim.cli", "ebpfsim.report"],
    "pytest": ["ebpfsim.pytest_plugin"],
    "random": ["ebpfsim.rng"],
    "secrets": [],
    "uuid": [],
    # a command may say how fast this machine was
    "time": ["ebpfsim.cli.prog"],
    "datetime": [],
}
# Loading these takes longer than most commands run, so they are imported where they are used.
SLOW_TO_LOAD = ["scapy", "networkx", "matplotlib", "jinja2", "hypothesis", "pytest"]


# The command line honours NO_COLOR; the live kernel is a machine's by definition.
# jit.batch: machine code is told where the bytes of frames lie
MAY_ASK_THE_MACHINE = ["ebpfsim.cli", "ebpfsim.jit.batch", "ebpfsim.live"]


@dataclass(frozen=True)
class Import:
    """One import: the module that has it, its line, and what it names."""

    module: str
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    module = module_name(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            for alias in node.names:
                yield Import(module, node.lineno, f"{node.module}.{alias.name}")


def room(module: str) -> str:
    package, _, rest = module.partition(".")
    if package != "ebpfsim":
        return package
    return ROOM_OF.get(f"ebpfsim.{rest.split('.')[0]}", "top")


def within(module: str, homes: list[str]) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in homes)


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(found for path in sources() for found in imports(path))


def test_modules_import_only_from_floors_below() -> None:
    wrong = []
    for found in all_imports():
        if found.target.split(".")[0] not in PACKAGES:
            continue
        here, there = room(found.module), room(found.target)
        allowed = RANK[there] <= RANK[here]
        if here == "elf":
            allowed = there in ELF_SEES
        elif there == "elf":
            allowed = here in SEES_ELF
        if not allowed:
            wrong.append(f"{found} ({here} must not see {there})")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", sorted(HOMES))
def test_library_is_used_only_in_its_place(library: str) -> None:
    users = [found for found in all_imports() if found.target.split(".")[0] == library]
    wrong = [str(found) for found in users if not within(found.module, HOMES[library])]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("statement", ["import ebpfsim", "import ebpfsim.cli.main"])
def test_start_up_loads_nothing_slow(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*sorted(set({SLOW_TO_LOAD}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_model_does_not_look_at_the_environment_or_at_identities() -> None:
    """``os.environ`` makes runs differ between machines; ``id()`` and ``hash()`` between runs on one."""
    wrong = []
    for path in sources():
        if within(module_name(path), MAY_ASK_THE_MACHINE):
            continue
        text = path.read_text()
        if not SUSPICIOUS.search(text):
            continue
        tree = ast.parse(text)
        # how a key of a dict hashes itself shows nowhere: dicts keep their order
        inside = {child for node in ast.walk(tree) if _is_hash(node) for child in ast.walk(node)}
        for node in ast.walk(tree):
            if node in inside:
                continue
            calls = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"id", "hash"}
            reads = isinstance(node, ast.Attribute) and node.attr in MACHINE and ast.unparse(node) == f"os.{node.attr}"
            if calls or reads:
                wrong.append(f"{module_name(path)}:{node.lineno} uses {ast.unparse(node)}")
    assert not wrong, "\n".join(wrong)


def _is_hash(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "__hash__"
