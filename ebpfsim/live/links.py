"""Attachments on the live kernel: only where they can do no harm."""

import ctypes
import os
from collections.abc import Mapping
from struct import pack, unpack
from typing import Any

from ebpfsim.errors import InputError, NotModelled
from ebpfsim.live.objects import LiveObjects
from ebpfsim.live.sys import Value, bpf, bpf_bytes, buffer
from ebpfsim.uapi.bpf import AttachType, BpfCmd
from ebpfsim.uapi.bpf_attr import ATTRS, LINK_CREATE_OPTS
from hooks.point import Queried

__all__ = ["LiveLinks", "link_create_opts"]

# hooks with an order of programs
ORDERED = {AttachType.TCX_INGRESS, AttachType.TCX_EGRESS, AttachType.NETKIT_PRIMARY, AttachType.NETKIT_PEER}
# hooks that belong to a network namespace
NAMESPACED = {
    AttachType.XDP,
    AttachType.TCX_INGRESS,
    AttachType.TCX_EGRESS,
    AttachType.NETKIT_PRIMARY,
    AttachType.NETKIT_PEER,
    AttachType.NETFILTER,
    AttachType.FLOW_DISSECTOR,
    AttachType.SK_LOOKUP,
}


# fields of the parts of the union of BPF_LINK_CREATE
ORDER, TRACED, EVENT = ("relative_fd", "expected_revision"), ("target_btf_id", "cookie"), ("bpf_cookie",)
MULTI = ("syms", "addrs", "cookies", "kprobe_multi_flags")
NETFILTER = ("pf", "hooknum", "priority", "netfilter_flags")
UNION = (ORDER, TRACED, EVENT, MULTI, NETFILTER)


class LiveLinks(LiveObjects):
    """BPF_LINK_*. Unless ``confined``, attachments may go anywhere: for machines that are thrown away."""

    confined: bool = True

    def __init__(self) -> None:
        super().__init__()
        self._netns_at_start = os.stat("/proc/self/ns/net").st_ino

    def link_create(self, prog_fd: int, target: int, attach_type: int, *, flags: int = 0, **opts: Any) -> int:
        """BPF_LINK_CREATE, in a network namespace other than that of process 1."""
        self._check(attach_type, "link_create")
        attr = {"prog_fd": prog_fd, "target_fd": target, "attach_type": attach_type, "flags": flags}
        if not opts:
            return bpf(BpfCmd.LINK_CREATE, attr)[0]
        data, _kept = link_create_opts(opts)
        return bpf_bytes(BpfCmd.LINK_CREATE, bytes(ATTRS[BpfCmd.LINK_CREATE].pack(attr)) + data)

    def raw_tracepoint_open(self, name: str, prog_fd: int, *, cookie: int = 0) -> int:
        """BPF_RAW_TRACEPOINT_OPEN, where not ``confined``; no name is NULL."""
        if self.confined:
            raise NotModelled("bpf(BPF_RAW_TRACEPOINT_OPEN) on a live kernel that is not thrown away")
        text = buffer(name.encode() + b"\0")
        attr = pack("<QIIQ", ctypes.addressof(text) if name else 0, prog_fd, 0, cookie)
        return bpf_bytes(BpfCmd.RAW_TRACEPOINT_OPEN, attr if cookie else attr[:16])

    def prog_attach(self, prog_fd: int, target_fd: int, attach_type: int, *, flags: int = 0, **opts: int) -> None:
        """BPF_PROG_ATTACH, in a network namespace other than that of process 1."""
        self._check(attach_type, "prog_attach")
        attr = {"attach_bpf_fd": prog_fd, "target_fd": target_fd, "attach_type": attach_type, "attach_flags": flags}
        bpf(BpfCmd.PROG_ATTACH, attr | opts)

    def prog_detach(self, prog_fd: int, target_fd: int, attach_type: int, *, flags: int = 0, **opts: int) -> None:
        """BPF_PROG_DETACH, in a network namespace other than that of process 1."""
        self._check(attach_type, "prog_detach")
        attr = {"attach_bpf_fd": prog_fd, "target_fd": target_fd, "attach_type": attach_type, "attach_flags": flags}
        bpf(BpfCmd.PROG_DETACH, attr | opts)

    def prog_query(self, target_fd: int, attach_type: int, *, query_flags: int = 0) -> Queried:
        """BPF_PROG_QUERY, in a network namespace other than that of process 1."""
        self._check(attach_type, "prog_query")
        attr: dict[str, Value] = {"target_fd": target_fd, "attach_type": attach_type, "query_flags": query_flags}
        found: dict[str, tuple[int, ...]] = {}
        room = bpf(BpfCmd.PROG_QUERY, attr)[1]
        count = room["prog_cnt"]
        assert isinstance(count, int)
        names: tuple[str, ...] = ("prog_ids", "prog_attach_flags", "link_ids", "link_attach_flags")
        if attach_type not in ORDERED:
            names = names[:1]
        buffers = {name: buffer(4 * count) for name in names}
        if count:
            bpf(BpfCmd.PROG_QUERY, {**attr, **buffers, "prog_cnt": count})
        for name, data in buffers.items():
            found[name] = unpack(f"<{count}I", data.raw[: 4 * count])
        flags, revision = room["attach_flags"], room["revision"]
        assert isinstance(flags, int)
        assert isinstance(revision, int)
        return Queried(attach_flags=flags, revision=revision, **found)

    def _check(self, attach_type: int, op: str) -> None:
        if not self.confined:
            return
        if attach_type not in NAMESPACED:
            raise InputError("", f"{op}: attach type {attach_type} reaches beyond a network namespace")
        if not self._netns_is_private():
            raise InputError("", f"{op}: this is the machine's own network namespace")

    def _netns_is_private(self) -> bool:
        # whether this task has left the namespace of process 1; where that is a secret, the one it started in
        here = os.stat("/proc/self/ns/net").st_ino
        try:
            return here != os.stat("/proc/1/ns/net").st_ino
        except PermissionError:
            return here != self._netns_at_start

    def link_update(self, fd: int, prog_fd: int, *, old_prog_fd: int = 0, flags: int = 0) -> None:
        """BPF_LINK_UPDATE."""
        attr = {"link_fd": fd, "new_prog_fd": prog_fd, "old_prog_fd": old_prog_fd, "flags": flags}
        bpf(BpfCmd.LINK_UPDATE, attr)

    def link_detach(self, fd: int) -> None:
        """BPF_LINK_DETACH."""
        bpf(BpfCmd.LINK_DETACH, {"link_fd": fd})


def link_create_opts(opts: Mapping[str, Any]) -> tuple[bytes, list[Any]]:
    """Return the bytes of the union that options are in (``link_create`` of union bpf_attr), and memory to be kept.

    Names of options say which part of the union they belong to, whatever the attach type is.
    """
    kept: list[Any] = []

    def pointer(data: bytes) -> int:
        kept.append(buffer(data))
        return ctypes.addressof(kept[-1])

    part = next((names for names in UNION if set(opts) <= set(names)), None)
    if part is None:
        raise NotModelled(f"link_create with {', '.join(sorted(opts))} on the live kernel")
    if part is ORDER:
        return bytes(LINK_CREATE_OPTS.pack(opts)), kept
    if part is TRACED:
        return pack("<IIQ", opts.get("target_btf_id", 0), 0, opts.get("cookie", 0)), kept
    if part is EVENT:
        return pack("<Q", opts["bpf_cookie"]), kept
    if part is NETFILTER:
        return pack("<IIiI", *(opts.get(name, 0) for name in NETFILTER)), kept
    syms, addrs, cookies = ([*opts.get(name, ())] for name in part[:3])
    names = [pointer(name.encode() + b"\0") for name in syms]
    arrays = [pointer(pack(f"<{len(each)}Q", *each)) if each else 0 for each in (names, addrs, cookies)]
    return pack("<IIQQQ", opts.get("kprobe_multi_flags", 0), max(len(syms), len(addrs)), *arrays), kept
