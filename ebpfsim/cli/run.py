"""``ebpfsim run``: a scenario from beginning to end."""

import json
import os
import re
import sys
from io import StringIO
from typing import TYPE_CHECKING, Any

import click

from ebpfsim.cli.errors import UNMET, describe_warning
from ebpfsim.cli.options import DURATION, debug_option, defer_routes, engine_option, json_option, set_option
from ebpfsim.errors import InputError

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running

__all__ = ["run"]

# where there is no terminal, output does not depend on one
PLAIN_WIDTH = 100
# what pads a column, before the end of its colour
TRAILING_SPACE = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$")


@click.command()
@click.argument("scenario")
@set_option
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Take this seed instead of the scenario's.")
@click.option("--until", type=DURATION, metavar="TIME", help="Stop at this simulated time, as in 5ms.")
@click.option(
    "--records", "wanted", multiple=True, metavar="OBJECT/MAP[:STRUCT]", help="Show what programs write to this map."
)
@click.option("--pcap", metavar="F.pcapng", help="Write what the devices saw, for Wireshark.")
@click.option("--report", metavar="F.html", help="Write a page with a line of time: packets, programs, tasks, changes.")
@debug_option
@engine_option
@json_option
def run(
    scenario: str,
    overrides: tuple[str, ...],
    seed: int | None,
    until: int | None,
    wanted: tuple[str, ...],
    pcap: str | None,
    report: str | None,
    debug: bool,
    engine: str | None,
    as_json: bool,
) -> int:
    """Run SCENARIO, a file or the name of one that ships, and say what happened.

    Exits with 1 when an expectation is not met.
    """
    defer_routes()
    from ebpfsim.report.summary import summarize
    from ebpfsim.scenario.check import check_scenario
    from ebpfsim.scenario.expect import judge
    from ebpfsim.scenario.load import load_scenario
    from ebpfsim.scenario.run import build, finish
    from ebpfsim.scenario.steps import schedule

    checked = check_scenario(load_scenario(scenario, overrides, seed))
    for text in wanted:
        name, _, type_ = text.partition(":")
        checked.want_records(name, type_ or None)
    running = build(checked, debug=debug, engine=engine or "")
    for warning in (*checked.warnings, *running.warnings):
        click.echo(describe_warning(warning), err=True)
    schedule(running)
    finish(running, until if until is not None else checked.scenario.model.until)
    if pcap is not None:
        _write_pcap(running, pcap)
    summary = summarize(running, judge(running))
    if report is not None:
        _write_report(running, summary, report)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        _print(summary)
        for text in wanted:
            _print_records(text.partition(":")[0], summary["records"][text.partition(":")[0]])
    return 0 if summary["met"] else UNMET


def _print(summary: dict[str, Any]) -> None:
    from rich.console import Console

    from ebpfsim.report.text import print_summary

    if sys.stdout.isatty():
        no_color = True if "NO_COLOR" in os.environ else None
        console = Console(highlight=False, markup=False, emoji=False, no_color=no_color)
        with console.capture() as captured:
            print_summary(summary, console)
        text = captured.get()
    else:
        stream = StringIO()
        console = Console(
            file=stream, width=PLAIN_WIDTH, force_terminal=False, color_system=None, legacy_windows=False,
            highlight=False, markup=False, emoji=False,
        )  # fmt: skip
        print_summary(summary, console)
        text = stream.getvalue()
    click.echo("\n".join(TRAILING_SPACE.sub(r"\1", line) for line in text.splitlines()))


def _print_records(name: str, found: dict[str, Any]) -> None:
    from ebpfsim.records import table

    click.echo(f"\nRecords of {name} (struct {found['type']})\n{table(found['records'])}", nl=False)


def _write_report(running: "Running", summary: dict[str, Any], path: str) -> None:
    from ebpfsim.report.timeline import render_report

    try:
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(render_report(running, summary))
    except OSError as error:
        raise InputError(path, f"report cannot be written: {(error.strerror or 'error').lower()}") from None


def _write_pcap(running: "Running", path: str) -> None:
    from ebpfsim.report.pcapng import Interface, write_pcapng

    speeds = {wire.a: wire.ab.shape.rate_bps or 0 for wire in running.sim.wires}
    speeds |= {wire.b: wire.ba.shape.rate_bps or 0 for wire in running.sim.wires}
    interfaces = [
        Interface(device.full_name, device.mac.hex(":"), speeds.get(device, 0))
        for host in running.sim.hosts.values()
        for net in (host.net, *host.net.namespaces.values())
        for device in net.devices.values()
    ]
    try:
        with open(path, "wb") as stream:
            write_pcapng(stream, interfaces, running.sim.recorder.packets)
    except OSError as error:
        raise InputError(path, f"capture cannot be written: {(error.strerror or 'error').lower()}") from None
