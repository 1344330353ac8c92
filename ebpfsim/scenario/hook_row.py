"""A row of the table of hooks that scenarios can name (``ebpfsim.scenario.hooks``)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsim.attached import AttachedLink
from ebpfsim.attached_filter import AttachedFilter

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running
    from ebpfsim.scenario.schema import AttachBlock
    from ebpfsim.simulation import Host

__all__ = ["Attached", "HookRow"]

Attached = AttachedLink | AttachedFilter
# (scenario, host, block, descriptor of the program, name of the link) -> the attachment
Attach = Callable[["Running", "Host", "AttachBlock", int, str], Attached]


@dataclass(frozen=True, slots=True)
class HookRow:
    """One hook: the key that says where, the other keys that it knows, and what attaches a program."""

    place: str
    keys: tuple[str, ...]
    attach: Attach
