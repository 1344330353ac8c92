"""Trace events: tracepoints with a record that perf and programs of type tracepoint see (kernel/trace/, v6.18).

Ids and the names of the arguments of system calls are those of a Linux 6.12 (``events/*/*/format`` in tracefs), kept in
``data/tracepoints.json.xz``. Records are laid out as the kernel's BTF has them (``struct trace_event_raw_NAME``), those
of system calls as ``struct syscall_tp_t``: the number, then 8 bytes for each argument.
"""

import json
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Composite, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InternalError

__all__ = ["Member", "TraceEvent", "all_events", "event_id", "find_event", "pack"]

_DATA = Path(__file__).with_name("data") / "tracepoints.json.xz"
_LOC = "__data_loc_"
ENTRY_BYTES = 8  # struct trace_entry; programs see none of it
SYSCALLS = "syscalls"
# events that share the record of a class (DEFINE_EVENT of DECLARE_EVENT_CLASS)
CLASSES = {
    "sched_waking": "sched_wakeup_template",
    "sched_wakeup": "sched_wakeup_template",
    "sched_wakeup_new": "sched_wakeup_template",
    "softirq_raise": "softirq",
    "softirq_entry": "softirq",
    "softirq_exit": "softirq",
    "hrtimer_cancel": "hrtimer_class",
    "hrtimer_expire_exit": "hrtimer_class",
    "local_timer_entry": "x86_irq_vector",
    "local_timer_exit": "x86_irq_vector",
    "cpu_idle": "cpu",
    "page_fault_user": "exceptions",
    "page_fault_kernel": "exceptions",
    "tcp_bad_csum": "tcp_event_skb",
    "tcp_destroy_sock": "tcp_event_sk",
    "tcp_rcv_space_adjust": "tcp_event_sk",
    "tcp_receive_reset": "tcp_event_sk",
    "net_dev_queue": "net_dev_template",
    "netif_receive_skb": "net_dev_template",
    "netif_rx": "net_dev_template",
    "sock_send_length": "sock_msg_length",
    "sock_recv_length": "sock_msg_length",
    "netif_rx_entry": "net_dev_rx_verbose_template",
    "netif_receive_skb_entry": "net_dev_rx_verbose_template",
    "napi_gro_receive_entry": "net_dev_rx_verbose_template",
    "netif_rx_exit": "net_dev_rx_exit_template",
    "netif_receive_skb_exit": "net_dev_rx_exit_template",
    "napi_gro_receive_exit": "net_dev_rx_exit_template",
    "neigh_update_done": "neigh__update",
    "neigh_timer_handler": "neigh__update",
    "neigh_event_send_done": "neigh__update",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a record; of a string behind the record (``__data_loc``) length and offset are at ``offset``."""

    name: str
    offset: int
    size: int
    is_loc: bool = False

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One event. ``size`` is where its last member ends, which is as far as programs may read."""

    category: str
    name: str
    id: int
    members: tuple[Member, ...]

    @property
    def full_name(self) -> str:
        """Its name as ``perf list`` shows it."""
        return f"{self.category}:{self.name}"

    @property
    def size(self) -> int:
        """The bytes of the record without what strings have behind it (trace_event_get_offsets)."""
        return self.members[-1].end


@cache
def _tables() -> Mapping[str, Any]:
    tables: Mapping[str, Any] = json.loads(lzma.decompress(_DATA.read_bytes()))
    return tables


@cache
def all_events() -> Mapping[str, int]:
    """Return the ids of all events of a Linux by their full names."""
    ids: dict[str, int] = dict(_tables()["events"])
    for name, (enter, leave, _args) in _tables()["syscalls"].items():
        ids[f"{SYSCALLS}:sys_enter_{name}"], ids[f"{SYSCALLS}:sys_exit_{name}"] = enter, leave
    return ids


def event_id(category: str, name: str) -> int | None:
    """Return what ``events/CATEGORY/NAME/id`` has, None when Linux has no such event."""
    return all_events().get(f"{category}:{name}")


@cache
def find_event(full_name: str) -> TraceEvent:
    """Return an event that Linux has, with the layout of its record."""
    category, _, name = full_name.partition(":")
    members = _syscall_members(name) if category == SYSCALLS else _members(CLASSES.get(name, name))
    return TraceEvent(category, name, all_events()[full_name], members)


def _syscall_members(name: str) -> tuple[Member, ...]:
    number = Member("__syscall_nr", ENTRY_BYTES, 4)
    if name.startswith("sys_exit_"):
        return number, Member("ret", 16, 8)
    args = _tables()[SYSCALLS][name.removeprefix("sys_enter_")][2]
    return number, *(Member(arg, 16 + 8 * index, 8) for index, (arg, _type) in enumerate(args))


def _members(class_name: str) -> tuple[Member, ...]:
    btf = vmlinux()
    struct = btf.type(btf.by_name(f"trace_event_raw_{class_name}", Kind.STRUCT))
    if not isinstance(struct, Composite):
        raise InternalError(f"no record of {class_name}")
    return tuple(
        Member(member.name.removeprefix(_LOC), member.bit_off // 8, sizeof(btf, member.type_id), _LOC in member.name)
        for member in struct.members
        if member.name not in ("ent", "__data")
    )


def pack(event: TraceEvent, values: Mapping[str, int | bytes]) -> bytes:
    """Return a record: numbers are cut to their members, short text is followed by zeroes, strings come last."""
    record = bytearray(event.size)
    for member in event.members:
        value = values[member.name]
        if member.is_loc:
            assert isinstance(value, bytes)
            text = value + b"\0"
            value = len(text) << 16 | len(record)
            record += text
        if isinstance(value, int):
            value = (value & (1 << 8 * member.size) - 1).to_bytes(member.size, "little")
        record[member.offset : member.end] = value[: member.size].ljust(member.size, b"\0")
    return bytes(record)
