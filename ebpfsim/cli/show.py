"""``prog show``, ``map show|dump``, ``link show``, ``net show``: bpftool's words and JSON for hosts at an instant."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from ebpfsim.cli.options import DURATION, defer_routes, json_option, set_option
from ebpfsim.errors import InputError
from ebpfsim.suggest import did_you_mean

if TYPE_CHECKING:
    from ebpfsim.kernel import Kernel

__all__ = ["kernels_of", "link", "map_", "net", "prog_show"]

Rows = list[dict[str, Any]]
Command = Callable[..., None]


def scenario_options(command: Command) -> Command:
    """Add what all of these commands take."""
    for option in (
        json_option,
        set_option,
        click.option("--host", "only", metavar="NAME", help="Look at this host only."),
        click.option("--at", type=DURATION, metavar="TIME", help="Look at this instant, as in 3ms, not at the end."),
        click.argument("scenario"),
    ):
        command = option(command)
    return command


@click.command("show")
@scenario_options
def prog_show(scenario: str, at: int | None, only: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the programs of a scenario's hosts."""
    from ebpfsim.report import bpftool

    _print(scenario, at, only, overrides, as_json, bpftool.prog_list, bpftool.prog_text)


@click.group("map")
def map_() -> None:
    """Show and dump the maps of a scenario's hosts, as bpftool does."""


@map_.command("show")
@scenario_options
def map_show(scenario: str, at: int | None, only: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the maps of a scenario's hosts."""
    from ebpfsim.report import bpftool

    _print(scenario, at, only, overrides, as_json, bpftool.map_list, bpftool.map_text)


@map_.command("dump")
@scenario_options
@click.argument("name", metavar="HOST/MAP")
def map_dump(
    scenario: str, name: str, at: int | None, only: str | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Print the elements of a map, named by its host and its name or id."""
    from ebpfsim.report import bpftool

    host, _, wanted = name.rpartition("/")
    kernels = kernels_of(scenario, at, host or only, overrides)
    found = [(kernel, found) for kernel in kernels.values() for found in kernel.maps]
    maps = [pair for pair in found if wanted in (pair[1].name, str(pair[1].id))]
    if not maps:
        known = sorted({pair[1].name for pair in found if pair[1].name})
        raise InputError(scenario, f"no map '{wanted}'{did_you_mean(wanted, known)}")
    if len(maps) > 1:
        raise InputError(scenario, f"there are {len(maps)} maps '{wanted}'", "name the host, or give an id")
    rows = bpftool.map_dump(*maps[0])
    click.echo(json.dumps(rows) if as_json else "\n".join(bpftool.dump_text(rows)))


@click.group()
def link() -> None:
    """Show the links of a scenario's hosts, as bpftool does."""


@link.command("show")
@scenario_options
def link_show(scenario: str, at: int | None, only: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the links of a scenario's hosts."""
    from ebpfsim.report import bpftool

    _print(scenario, at, only, overrides, as_json, bpftool.link_list, bpftool.link_text)


@click.group()
def net() -> None:
    """Show what is attached to the network of a scenario's hosts, as bpftool does."""


@net.command("show")
@scenario_options
def net_show(scenario: str, at: int | None, only: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the programs of devices and namespaces of a scenario's hosts."""
    from ebpfsim.report import bpftool_net

    _print(scenario, at, only, overrides, as_json, bpftool_net.net_list, bpftool_net.net_text)


def _print(
    scenario: str,
    at: int | None,
    only: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    rows_of: "Callable[[Kernel], Rows]",
    lines_of: Callable[[dict[str, Any]], Iterator[str]],
) -> None:
    # JSON is bpftool's list for one host, lists by host for several
    found = {name: rows_of(kernel) for name, kernel in kernels_of(scenario, at, only, overrides).items()}
    if as_json:
        click.echo(json.dumps(next(iter(found.values())) if len(found) == 1 else found))
        return
    for name, rows in found.items():
        if len(found) > 1 and rows:
            click.echo(f"{name}:")
        for row in rows:
            for line in lines_of(row):
                click.echo(line)


def kernels_of(scenario: str, at: int | None, only: str | None, overrides: tuple[str, ...]) -> "dict[str, Kernel]":
    """Run a scenario to an instant or its end; return its hosts' kernels, or one of them."""
    defer_routes()
    from ebpfsim.scenario.check import check_scenario
    from ebpfsim.scenario.load import load_scenario
    from ebpfsim.scenario.run import build, finish
    from ebpfsim.scenario.steps import schedule

    checked = check_scenario(load_scenario(scenario, overrides, None))
    running = build(checked)
    schedule(running)
    finish(running, at if at is not None else checked.scenario.model.until)
    hosts = running.sim.hosts
    if only is not None and only not in hosts:
        raise InputError(scenario, f"no host '{only}'{did_you_mean(only, hosts)}")
    return {name: host.kernel for name, host in hosts.items() if only in (None, name)}
