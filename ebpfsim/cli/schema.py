"""``ebpfsim schema``: the JSON Schema of scenarios."""

import json

import click

__all__ = ["schema"]


@click.command()
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors that check YAML while you type."""
    from ebpfsim.scenario.jsonschema import scenario_schema

    click.echo(json.dumps(scenario_schema(), indent=2))
