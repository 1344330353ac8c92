"""Object files for commands: reading them, a simulated host to load them on, and programs by their names."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsim.errors import InputError
from ebpfsim.suggest import did_you_mean

if TYPE_CHECKING:
    from ebpfsim.elf.spec import ObjectSpec
    from ebpfsim.loader import Object
    from ebpfsim.simulation import Host

__all__ = ["chosen_programs", "open_object", "read_spec"]


def read_spec(path: str) -> "ObjectSpec":
    """Read an object file."""
    from ebpfsim.elf.reader import read_object

    if Path(path).is_dir():
        raise InputError(path, "is a folder, expected an object file")
    spec = read_object(path, path)
    spec.require_contents()
    return spec


def open_object(spec: "ObjectSpec", *, debug: bool = False, engine: str = "auto") -> "tuple[Object, Host]":
    """Return the object, not yet loaded, on a host of its own."""
    from ebpfsim.loader import Object
    from ebpfsim.simulation import Simulation

    sim = Simulation()
    if debug:
        sim.mem.track()
    host = sim.host("prog", debug=debug, engine=engine)
    return Object(spec, bpf=host.bpf), host


def chosen_programs(spec: "ObjectSpec", names: Iterable[str]) -> list[str]:
    """Return the programs of these names, all when there are none; InputError for one that is not there."""
    chosen = list(names) or list(spec.programs)
    for name in chosen:
        if name not in spec.programs:
            hint = f"there is {', '.join(spec.programs)}"
            raise InputError(spec.where, f"no program '{name}'{did_you_mean(name, spec.programs)}", hint)
    return chosen
