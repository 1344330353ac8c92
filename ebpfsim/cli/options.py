"""Options and settings that several commands share."""

import click

from ebpfsim.clock import parse_duration
from ebpfsim.errors import InputError

__all__ = ["DURATION", "debug_option", "defer_routes", "engine_option", "json_option", "set_option"]


class _Duration(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_duration(str(value))
        except InputError as error:
            self.fail(f"{error.problem}; {error.hint}", param, ctx)


DURATION = _Duration()

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of words.")
debug_option = click.option("--debug", is_flag=True, help="Check that every access stays in one live object.")
engine_option = click.option(
    "--engine", type=click.Choice(["auto", "interp", "jit"]), help="What runs programs; the results are the same."
)
set_option = click.option(
    "--set", "overrides", metavar="PATH=VALUE", multiple=True, help="Change a value, as in links.0.delay=1us."
)


def defer_routes() -> None:
    """Keep scapy from reading this machine's routing tables, with which the frames of a simulation have nothing to do.

    For commands only: in a user's own process scapy stays as it is.
    """
    from scapy.config import conf

    conf.route_autoload = False
    conf.route6_autoload = False
