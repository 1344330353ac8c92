"""``ebpfsim check``: everything that is wrong with scenarios, without running them."""

import json

import click

from ebpfsim.cli.errors import describe, describe_warning, exit_code
from ebpfsim.cli.options import defer_routes, json_option
from ebpfsim.errors import EbpfSimError, NotModelled, ScenarioError
from ebpfsim.scenario.check import check_scenario
from ebpfsim.scenario.load import load_scenario

__all__ = ["check"]


@click.command()
@click.argument("scenarios", nargs=-1, required=True, metavar="SCENARIO...")
@json_option
def check(scenarios: tuple[str, ...], as_json: bool) -> int:
    """Check scenario files: syntax, keys, units, names, files, packet strings. All errors come at once."""
    defer_routes()
    worst = 0
    rows: list[dict[str, object]] = []
    for name in scenarios:
        errors: list[EbpfSimError] = []
        warnings: list[ScenarioError] = []
        try:
            checked = check_scenario(load_scenario(name))
        except EbpfSimError as error:
            errors = [error, *error.others] if isinstance(error, ScenarioError) else [error]
            worst = worst or exit_code(error)
            if not as_json:
                click.echo(describe(error), err=True)
        else:
            warnings = checked.warnings
            if not as_json:
                for warning in warnings:
                    click.echo(describe_warning(warning), err=True)
                model = checked.scenario.model
                counts = {"host": model.hosts, "event": model.events, "expectation": model.expect}
                parts = [f"{len(found)} {what}{'s' if len(found) != 1 else ''}" for what, found in counts.items()]
                click.echo(f"{name}: ok: {', '.join(parts)}")
        rows.append(
            {
                "scenario": name,
                "ok": not errors,
                "errors": [_row(error) for error in errors],
                "warnings": [_row(warning) for warning in warnings],
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    return worst


def _row(error: EbpfSimError) -> dict[str, object]:
    if isinstance(error, ScenarioError):
        return {"where": error.where, "problem": error.problem, "hint": error.hint, "not_modelled": False}
    return {"where": error.at, "problem": str(error), "hint": "", "not_modelled": isinstance(error, NotModelled)}
