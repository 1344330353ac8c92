"""``ebpfsim asm``: text to instructions."""

import sys
from pathlib import Path

import click

from ebpfsim.errors import AsmError, InputError

__all__ = ["asm"]


@click.command()
@click.argument("file")
@click.option("-o", "--output", metavar="OBJ.bin", help="Write the slots, 8 bytes each, as bpf(2) takes them.")
def asm(file: str, output: str | None) -> None:
    """Assemble FILE (or - for standard input) in the kernel's syntax and list what comes of it."""
    from ebpfsim.isa.asm import assemble
    from ebpfsim.isa.disasm import disasm_all
    from ebpfsim.isa.insn import encode

    text = _read(file)
    try:
        insns = assemble(text)
    except AsmError as error:
        raise AsmError(f"{file}:{error.where}", error.problem, error.hint, error.source) from None
    if not insns:
        raise AsmError(file, "no instructions")
    for idx, line in disasm_all(insns):
        click.echo(f"{idx:4d}: {line}")
    if output is not None:
        try:
            Path(output).write_bytes(encode(insns))
        except OSError as error:
            raise InputError(output, f"cannot be written: {(error.strerror or 'error').lower()}") from None


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise InputError(file, f"cannot be read: {(error.strerror or 'error').lower()}") from None
    except UnicodeDecodeError:
        raise InputError(file, "not UTF-8 text, expected assembly") from None
