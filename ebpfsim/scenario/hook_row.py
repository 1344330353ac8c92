"""A row of the table of hooks that scenarios can name (``ebpfsim.scenario.hooks``)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ebpfsim.attached import AttachedLink
from ebpfsim.attached_filter import AttachedFilter
from ebpfsim.attached_lwt import AttachedLwt
from ebpfsim.attached_reuseport import AttachedReuseport, AttachedSocketFilter

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running
    from ebpfsim.scenario.schema import AttachBlock
    from ebpfsim.simulation import Host

__all__ = ["Attached", "HookRow"]

Attached = AttachedLink | AttachedFilter | AttachedReuseport | AttachedSocketFilter | AttachedLwt
# (scenario, host, block, descriptor of the program, name of the link) -> the attachment
Attach = Callable[["Running", "Host", "AttachBlock", int, str], Attached]


@dataclass(frozen=True, slots=True)
class HookRow:
    """One hook: the key that says where (empty: there is one place only), the other keys that it knows, and what
    attaches a program.

    ``of_programs``: whether ``target`` may, or can only, be a function of another program.
    """

    place: str
    keys: tuple[str, ...]
    attach: Attach
    of_programs: Literal["", "too", "only"] = ""

    def at_program(self, where: str) -> bool:
        """Say whether that place is a function of a program."""
        return self.of_programs == "only" or (self.of_programs == "too" and "/" in where)
