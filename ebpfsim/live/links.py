"""Attachments on the live kernel: only where they can do no harm."""

import os

from ebpfsim.errors import InputError, NotModelled
from ebpfsim.live.objects import LiveObjects
from ebpfsim.live.sys import bpf
from ebpfsim.uapi.bpf import AttachType, BpfCmd

__all__ = ["LiveLinks"]

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


class LiveLinks(LiveObjects):
    """BPF_LINK_*."""

    def __init__(self) -> None:
        super().__init__()
        self._netns_at_start = os.stat("/proc/self/ns/net").st_ino

    def link_create(self, prog_fd: int, target: int, attach_type: int, *, flags: int = 0, **opts: int) -> int:
        """BPF_LINK_CREATE, in a network namespace other than that of process 1."""
        if attach_type not in NAMESPACED:
            raise InputError("", f"link_create: attach type {attach_type} reaches beyond a network namespace")
        if not self._netns_is_private():
            raise InputError("", "link_create: this is the machine's own network namespace")
        if opts:
            raise NotModelled(f"link_create with {', '.join(sorted(opts))} on the live kernel")
        attr = {"prog_fd": prog_fd, "target_fd": target, "attach_type": attach_type, "flags": flags}
        return bpf(BpfCmd.LINK_CREATE, attr)[0]

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
