"""Options that several commands share."""

import click
import pytest
from click.testing import CliRunner

from ebpfsim.cli.options import DURATION, debug_option, engine_option


@click.command()
@click.option("--until", type=DURATION)
@debug_option
@engine_option
def command(until: int | None, debug: bool, engine: str | None) -> None:
    click.echo(f"{until} {debug} {engine}")


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ([], "None False None"),
        (["--until", "5us", "--debug"], "5000 True None"),
        (["--until", "7ns", "--engine", "interp"], "7 False interp"),
    ],
)
def test_values(arguments: list[str], output: str) -> None:
    assert CliRunner().invoke(command, arguments).output == f"{output}\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--until", "5 parsecs"], "duration '5 parsecs' is not understood"),
        (["--engine", "jut"], "'jut' is not one of"),
    ],
)
def test_wrong_values(arguments: list[str], problem: str) -> None:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 2
    assert problem in done.output
