"""Attaching to a network namespace, step by step, for both kernels; as a script, on Linux in a namespace of its own."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

KINDS = {
    "F": (ProgType.FLOW_DISSECTOR, AttachType.FLOW_DISSECTOR, "r0 = 0; exit"),
    "L": (ProgType.SK_LOOKUP, AttachType.SK_LOOKUP, "r0 = 1; exit"),
}


def answers(bpf: Any, open_netns: Callable[[], int], steps: list[list[Any]]) -> list[Any]:
    """Do steps: what, the program's name (its first letter is its kind), the link's name or options."""
    progs: dict[str, int] = {}
    links: dict[str, int] = {}
    net = open_netns()
    said: list[Any] = []

    def prog(name: str) -> int:
        if name not in progs:
            kind, expected, code = KINDS[name[0]]
            progs[name] = bpf.prog_load(kind, encode(assemble(code)), name=name, expected_attach_type=expected).fd
        return progs[name]

    for what, name, more in steps:
        kind = KINDS[name[0]][1]
        try:
            if what == "attach":
                bpf.prog_attach(prog(name), more.get("fd", 0), kind, flags=more.get("flags", 0))
            elif what == "detach":
                bpf.prog_detach(prog(name), more.get("fd", 0), kind)
            elif what == "link":
                target = more.get("fd", net)
                links[more["id"]] = bpf.link_create(prog(name), target, kind, flags=more.get("flags", 0))
            elif what == "update":
                old = {"old_prog_fd": prog(more["old"]), "flags": 4} if "old" in more else {}
                bpf.link_update(links[more["id"]], prog(name), **old)
            elif what == "unlink":
                bpf.link_detach(links[more["id"]])
            ids = bpf.prog_query(net, kind).prog_ids
            names = {bpf.obj_get_info_by_fd(fd).id: each for each, fd in progs.items()}
            said.append([names[each] for each in ids])
        except KernelError as error:
            said.append(error.errno_name)
        except KeyError as error:
            said.append(f"no {error}")
    for fd in links.values():
        bpf.close(fd)
    for name, fd in progs.items():
        with contextlib.suppress(KernelError):
            bpf.prog_detach(fd, 0, KINDS[name[0]][1])
    return said


if __name__ == "__main__":
    from ebpfsim.live import Bpf
    from ebpfsim.live.sys import libc

    live = Bpf()
    assert libc().unshare(0x40000000) == 0  # CLONE_NEWNET
    json.dump(answers(live, lambda: os.open("/proc/self/ns/net", os.O_RDONLY), json.load(sys.stdin)), sys.stdout)
