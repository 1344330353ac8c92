"""Rows of ``ebpfsim.scenario.hooks`` for what is attached to no place: iterators, and tables of functions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ebpfsim.attached import AttachedLink
from ebpfsim.errors import InputError
from ebpfsim.scenario.hook_row import HookRow

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running
    from ebpfsim.scenario.schema import AttachBlock
    from ebpfsim.simulation import Host

__all__ = ["OBJECT_HOOKS", "STRUCT_OPS"]

STRUCT_OPS = "struct_ops"


def _iter(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    map_ = running.map_of(block.map) if block.map is not None else None
    return host.attach_iter(fd, map_, label=name)


def _struct_ops(running: "Running", host: "Host", block: "AttachBlock", _fd: int, name: str) -> AttachedLink:
    owner, _, table = block.program.partition("/")
    link = host.attach_struct_ops(running.objects[owner].struct_ops[table], label=name)
    if not isinstance(link, AttachedLink):
        raise InputError("", f"table '{block.program}' has no link", 'SEC(".struct_ops.link")')
    return link


OBJECT_HOOKS: Mapping[str, HookRow] = {
    "iter": HookRow("", ("map",), _iter),
    STRUCT_OPS: HookRow("", (), _struct_ops),
}
