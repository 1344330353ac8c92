"""``ebpfsim scenarios``: what ships."""

import json

import click

from ebpfsim.cli.options import json_option
from ebpfsim.errors import InputError
from ebpfsim.scenario.shipped import find_shipped, shipped_folder, shipped_names
from ebpfsim.suggest import did_you_mean

__all__ = ["scenarios"]

COLUMNS = 100


@click.group(invoke_without_command=True)
@click.pass_context
def scenarios(ctx: click.Context) -> None:
    """List the scenarios that ship, or show one."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_scenarios)


@scenarios.command("list")
@json_option
def list_scenarios(as_json: bool = False) -> None:
    """List their names, each with its first line."""
    rows = [(name, _title(name)) for name in shipped_names()]
    if as_json:
        click.echo(json.dumps([{"name": name, "title": title} for name, title in rows], indent=2))
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, title in rows:
        room = COLUMNS - width - 2
        click.echo(f"{name:<{width}}  {title if len(title) <= room else title[: room - 3].rstrip(' ,:') + '...'}")


@scenarios.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Print a scenario."""
    found = find_shipped(name)
    if found is None:
        known = [*shipped_names(), *(known.rpartition("/")[2] for known in shipped_names())]
        raise InputError("", f"no scenario '{name}' ships{did_you_mean(name, known)}", "'ebpfsim scenarios' lists them")
    click.echo(found[0].read_text("utf-8"), nl=False)


def _title(name: str) -> str:
    # the first sentence of the comment at the top
    folder = shipped_folder()
    assert folder is not None
    words: list[str] = []
    for line in (folder / f"{name}.yaml").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        words += line.lstrip("# ").split()
    text = " ".join(words)
    end = text.find(". ")
    return text[:end] if end >= 0 else text.rstrip(".")
