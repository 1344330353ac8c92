"""Object files for commands: reading them, a simulated host to load them on, and programs by their names."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsim.errors import InputError
from ebpfsim.suggest import did_you_mean

if TYPE_CHECKING:
    from ebpfsim.btf.btf import Btf
    from ebpfsim.elf.spec import ObjectSpec
    from ebpfsim.loader import Object
    from ebpfsim.simulation import Host

__all__ = ["chosen_programs", "open_object", "read_bytes", "read_spec", "read_types"]

BTF_MAGIC = b"\x9f\xeb"


def read_spec(path: str) -> "ObjectSpec":
    """Read an object file."""
    from ebpfsim.elf.reader import read_object

    if Path(path).is_dir():
        raise InputError(path, "is a folder, expected an object file")
    spec = read_object(path, path)
    spec.require_contents()
    return spec


def read_bytes(path: str) -> bytes:
    """Return an object or BTF file's bytes; InputError when they cannot be read."""
    if Path(path).is_dir():
        raise InputError(path, "is a folder, expected an object or BTF file")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read: {(error.strerror or 'error').lower()}") from None


def read_types(path: str) -> "Btf":
    """Return the types of an object or BTF file."""
    from ebpfsim.btf.btf import Btf
    from ebpfsim.elf.file import ElfFile

    data = read_bytes(path)
    if data[:2] != BTF_MAGIC:
        # as it lies in the file, without what a loader fills in
        section = ElfFile(data, path).section(".BTF")
        if section is None:
            raise InputError(path, "has no .BTF section")
        data = section.data
    found = Btf(data, where=path)
    found.validate()
    return found


def open_object(
    spec: "ObjectSpec",
    *,
    debug: bool = False,
    engine: str = "auto",
    core_btf: "Btf | None" = None,
    caps: Sequence[str] | None = None,
) -> "tuple[Object, Host]":
    """Return the object, not yet loaded, on a host of its own; ``core_btf`` are other types for CO-RE.

    ``caps``: the capabilities of the task that loads it, root's when there are none.
    """
    from ebpfsim.loader import Object
    from ebpfsim.simulation import Simulation

    sim = Simulation()
    if debug:
        sim.mem.track()
    host = sim.host("prog", debug=debug, engine=engine)
    bpf = host.bpf if caps is None else host.bpf_as(caps)
    return Object(spec, bpf=bpf, core_btf=core_btf), host


def chosen_programs(spec: "ObjectSpec", names: Iterable[str]) -> list[str]:
    """Return the programs of these names, all when there are none; InputError for one that is not there."""
    chosen = list(names) or list(spec.programs)
    for name in chosen:
        if name not in spec.programs:
            hint = f"there is {', '.join(spec.programs)}"
            raise InputError(spec.where, f"no program '{name}'{did_you_mean(name, spec.programs)}", hint)
    return chosen
