"""``ebpfsim btf``: the types of object files and BTF files."""

import json
from pathlib import Path

import click

from ebpfsim.cli.objects import read_bytes, read_types
from ebpfsim.cli.options import json_option
from ebpfsim.errors import InputError

__all__ = ["btf"]


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

    types = read_types(file)
    if shape == "c":
        click.echo(dump_c(types), nl=False)
        return
    rows = btf_types(types)
    click.echo(json.dumps({"types": rows}) if as_json else "\n".join(btf_text(rows)))


@btf.command()
@click.argument("files", metavar="FILE..", nargs=-1, required=True)
@click.option("--out", "-o", required=True, metavar="OUT", help="Where the types go.")
@click.option("--kernel-btf", metavar="BTF", help="The kernel's types; by default those of the simulated kernel.")
def prune(files: tuple[str, ...], out: str, kernel_btf: str | None) -> None:
    """Write the part of a kernel's types that the CO-RE relocations of the objects FILE.. need."""
    from ebpfsim.btf.btf import Btf
    from ebpfsim.btf.ext import BtfExt
    from ebpfsim.btf.prune import prune as pruned
    from ebpfsim.btf.vmlinux import vmlinux
    from ebpfsim.elf.file import ElfFile

    objects = []
    for path in files:
        file = ElfFile(read_bytes(path), path)
        types, ext = file.section(".BTF"), file.section(".BTF.ext")
        if types is None or ext is None:
            raise InputError(path, f"has no {'.BTF' if types is None else '.BTF.ext'} section", "build it with -g")
        local = Btf(types.data, where=path)
        objects.append((local, BtfExt(ext.data, local, path)))
    data = pruned(vmlinux() if kernel_btf is None else read_types(kernel_btf), objects)
    try:
        Path(out).write_bytes(data)
    except OSError as error:
        raise InputError(out, f"cannot be written: {(error.strerror or 'error').lower()}") from None
    click.echo(f"{out}: {Btf(data).nr_types - 1} types, {len(data)} bytes")
