"""``ebpfsim``: the group of commands, and what every command has in common: exit codes and errors without tracebacks.

Exit codes: 0 ok, 1 an expectation failed, 2 wrong usage or input, 3 refused by the simulated kernel, 4 not modelled,
70 our bug, 130 interrupted. Results go to stdout, errors to stderr.
"""

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

import ebpfsim
from ebpfsim.cli.errors import INTERRUPTED, USAGE, describe, describe_bug, exit_code
from ebpfsim.errors import EbpfSimError

__all__ = ["main"]

# of a standard output that takes no more: a full disk, a quota
OUTPUT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
# command -> module and object, its short help
COMMANDS = {
    "run": ("ebpfsim.cli.run:run", "Run a scenario and say what happened."),
    "check": ("ebpfsim.cli.check:check", "Check scenarios without running them: all errors at once."),
    "scenarios": ("ebpfsim.cli.scenarios:scenarios", "List and show the scenarios that ship."),
    "schema": ("ebpfsim.cli.schema:schema", "Print the JSON Schema of scenarios, for editors."),
    "prog": ("ebpfsim.cli.prog:prog", "Verify, dump and run the programs of object files."),
    "map": ("ebpfsim.cli.show:map_", "Show and dump the maps of a scenario's hosts, as bpftool does."),
    "link": ("ebpfsim.cli.show:link", "Show the links of a scenario's hosts, as bpftool does."),
    "net": ("ebpfsim.cli.show:net", "Show what is attached to the network of a scenario's hosts, as bpftool does."),
    "btf": ("ebpfsim.cli.btf:btf", "Print the types of object and BTF files."),
    "asm": ("ebpfsim.cli.asm:asm", "Assemble BPF instructions."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, with a proposal when it is misspelt."""
        from ebpfsim.suggest import did_you_mean

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no such command '{args[0]}'{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ebpfsim.__version__, prog_name="ebpfsim", message="%(prog)s %(version)s")
def commands() -> None:
    """Simulate Linux's BPF subsystem: load, verify, attach and run programs on simulated machines."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None, command: click.Command = commands, prog_name: str = "ebpfsim") -> int:
    """Run a command line and return the exit code."""
    try:
        result = command.main(args=arguments, prog_name=prog_name, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code if error.exit_code != 1 else 2
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in OUTPUT_ERRNOS:
            return _bug(error, arguments)
        click.echo(f"error: output cannot be written: {(error.strerror or 'error').lower()}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USAGE
    except EbpfSimError as error:
        click.echo(describe(error), err=True)
        return exit_code(error)
    except Exception as error:
        return _bug(error, arguments)


def _bug(error: Exception, arguments: Sequence[str] | None) -> int:
    click.echo(describe_bug(error, sys.argv[1:] if arguments is None else list(arguments)), err=True)
    return exit_code(error)
