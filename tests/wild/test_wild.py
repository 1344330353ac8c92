"""Objects that others compiled: those of Debian's libbpf-tools, libxdp1 and xdp-tests (``make wild`` fetches them).

``loaded.json`` has what Linux 6.18.44 made of each program, loaded alone: how many instructions its verifier processed
and the program's tag, the reason of a refusal, or the errno of what failed before.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import ebpfsim
from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.loader import open_object

FOLDER = Path(os.environ.get("EBPFSIM_WILD", Path(__file__).parents[2] / "build" / "wild"))
LOADED: dict[str, Any] = json.loads(Path(__file__).with_name("loaded.json").read_text())
OBJECTS = sorted(path.name for path in FOLDER.glob("*.o"))

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no objects: make wild")


@pytest.mark.parametrize("name", OBJECTS)
def test_object_opens_and_relocates(name: str) -> None:
    obj = ebpfsim.Simulation(seed=1).host("h").open(str(FOLDER / name))
    assert {f"{name}:{program}" for program in obj.programs} >= {key for key in LOADED if key.startswith(f"{name}:")}
    for program in obj.programs:
        assert len(obj.relocate(program)) % 8 == 0


@pytest.mark.parametrize("key", LOADED)
def test_program_loads_as_on_linux(key: str) -> None:
    name, program = key.split(":")
    assert outcome(ebpfsim.Simulation(seed=1).host("h").bpf, FOLDER / name, program) == LOADED[key]


def outcome(bpf: Any, path: Path, program: str) -> list[Any]:
    """Load one program of an object; return what came of it, as in ``loaded.json``."""
    obj = open_object(str(path))
    try:
        obj.load(bpf, only=[program])
        loaded = obj.programs[program]
        return ["accepted", loaded.verified_insns, loaded.tag.hex()]
    except VerifierError as error:
        lines = [
            line for line in error.log.splitlines() if line and not line.startswith(("processed ", "stack depth "))
        ]
        return ["refused", error.errno, lines[-1]]
    except KernelError as error:
        return ["failed", error.errno]
    finally:
        obj.close()
