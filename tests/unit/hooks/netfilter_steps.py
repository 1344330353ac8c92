"""Links on the hooks of netfilter, step by step, for both kernels; as a script, on Linux in a namespace of its own."""

import json
import sys
from typing import Any

from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType


def answers(bpf: Any, steps: list[dict[str, int]]) -> list[Any]:
    """Make a link for each step's fields: an errno's name, or the fields of its info. They stay until the end."""
    insns = encode(assemble("r0 = 1; exit"))
    prog = bpf.prog_load(ProgType.NETFILTER, insns, expected_attach_type=AttachType.NETFILTER).fd
    said: list[Any] = []
    links = []
    for step in steps:
        what = dict(step)
        flags, close = what.pop("flags", 0), what.pop("close", None)
        try:
            if close is not None:
                bpf.link_detach(links[close])
                said.append("detached")
                continue
            link = bpf.link_create(prog, 0, AttachType.NETFILTER, flags=flags, **what)
            links.append(link)
            info = bpf.obj_get_info_by_fd(link)
            said.append([info.pf, info.hooknum, info.priority, info.flags])
        except KernelError as error:
            said.append(error.errno_name)
    try:
        bpf.link_update(links[0], prog)
    except KernelError as error:
        said.append(error.errno_name)
    for link in links:
        bpf.close(link)
    return said


if __name__ == "__main__":
    from ebpfsim.live import Bpf
    from ebpfsim.live.sys import libc

    live = Bpf()
    assert libc().unshare(0x40000000) == 0  # CLONE_NEWNET
    json.dump(answers(live, json.load(sys.stdin)), sys.stdout)
