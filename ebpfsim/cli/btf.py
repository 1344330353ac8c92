"""``ebpfsim btf``: the types of object files and BTF files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ebpfsim.cli.options import json_option
from ebpfsim.errors import InputError

if TYPE_CHECKING:
    from ebpfsim.btf.btf import Btf

__all__ = ["btf"]

BTF_MAGIC = b"\x9f\xeb"


@click.group()
def btf() -> None:
    """Print the types of object and BTF files."""


@btf.command()
@click.argument("file", metavar="FILE")
@click.option("--format", "shape", type=click.Choice(["raw", "c"]), default="raw", help="Types one by one, or C.")
@json_option
def dump(file: str, shape: str, as_json: bool) -> None:
    """Print the types of FILE, an object or raw BTF, as bpftool does."""
    from ebpfsim.btf.dump import dump_c
    from ebpfsim.report.bpftool import btf_text, btf_types

    types = _read(file)
    if shape == "c":
        click.echo(dump_c(types), nl=False)
        return
    rows = btf_types(types)
    click.echo(json.dumps({"types": rows}) if as_json else "\n".join(btf_text(rows)))


def _read(path: str) -> "Btf":
    from ebpfsim.btf.btf import Btf
    from ebpfsim.elf.file import ElfFile

    if Path(path).is_dir():
        raise InputError(path, "is a folder, expected an object or BTF file")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read: {(error.strerror or 'error').lower()}") from None
    if data[:2] != BTF_MAGIC:
        # as it lies in the file, without what a loader fills in
        section = ElfFile(data, path).section(".BTF")
        if section is None:
            raise InputError(path, "has no .BTF section")
        data = section.data
    found = Btf(data, where=path)
    found.validate()
    return found
