"""``ebpfsim-conformance``: a plugin for the public runner bpf_conformance, which measures conformance to the ISA.

The runner starts a plugin as ``PLUGIN [MEMORY] [OPTIONS] [--elf]``, with the program as hex bytes on its standard
input: slots, or an object file with ``--elf``. The plugin prints R0 in hex and exits with 0, or says on standard error
what was wrong and exits with something else. Options may arrive as one argument with blanks in it, and be empty.
"""

import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

import ebpfsim
from ebpfsim.cli.main import run
from ebpfsim.errors import InputError

__all__ = ["conformance", "main"]

PROG_NAME = "ebpfsim-conformance"
ELF_MAGIC = b"\x7fELF"
_BLANK = re.compile(r"[\s,]+")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("memory", metavar="[MEMORY_HEX]", default="")
@click.option("--engine", type=click.Choice(["interp", "jit"]), default="interp", help="What runs the program.")
@click.option("--elf", is_flag=True, help="The program is an object file, its bytes in hex.")
@click.option("--xdp", is_flag=True, help="Verify and run it as an XDP program, with the memory for its packet.")
@click.option("--program", metavar="HEX", help="The program, instead of standard input.")
@click.option("--debug", is_flag=True, help="Say more of a fault: the registers.")
@click.version_option(ebpfsim.__version__, prog_name=PROG_NAME, message="%(prog)s %(version)s")
def conformance(memory: str, engine: str, elf: bool, xdp: bool, program: str | None, debug: bool) -> None:
    """Run a BPF program, given as hex bytes on standard input, and print R0 in hex.

    R1 is the address of the memory and R2 its size. The program is not verified, but has to be one: reserved fields of
    zero, registers that exist, jumps inside.
    """
    from ebpfsim.conformance import Conformance
    from ebpfsim.errors import KernelOops
    from ebpfsim.isa.insn import decode

    data = _program(program, elf)
    given = _bytes(memory, "MEMORY_HEX")
    machine = Conformance(engine)
    try:
        if xdp:
            result = machine.run_xdp(data, given, elf=elf)
        else:
            result = machine.run_elf(data, given) if elf else machine.run(decode(data, "program"), given)
    except KernelOops as oops:
        if debug and oops.registers:
            click.echo(oops.details(), err=True)
        raise
    click.echo(f"{result:x}")


def _program(text: str | None, elf: bool) -> bytes:
    if text is not None:
        return _bytes(text, "--program")
    data = sys.stdin.buffer.read()
    if elf and data.startswith(ELF_MAGIC):
        return data
    return _bytes(data.decode("ascii", "replace"), "standard input")


def _bytes(text: str, where: str) -> bytes:
    # bytes of one or two digits with blanks between them, or all digits in a row
    parts = [part for part in _BLANK.split(text) if part]
    found = "".join(part.removeprefix("0x").rjust(2, "0") for part in parts)
    try:
        return bytes.fromhex(found)
    except ValueError:
        bad = next((part for part in parts if not re.fullmatch(r"(0x)?([0-9a-fA-F]{2})*|[0-9a-fA-F]", part)), text)
        raise InputError(where, f"'{bad}' is not made of hex bytes", "as in '95 00 00 00 00 00 00 00'") from None


def arguments_of_runner(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as a shell would have split them: empty ones dropped, options with blanks taken apart."""
    found: list[str] = []
    for argument in arguments:
        if argument.strip().startswith("--"):
            found += argument.split()
        elif argument.strip():
            found.append(argument)
    return found


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the plugin and exit."""
    given = sys.argv[1:] if arguments is None else arguments
    sys.exit(run(arguments_of_runner(given), conformance, PROG_NAME))
