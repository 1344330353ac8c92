"""Steps on a tcx place, for both kernels: as a module, on any ``bpf``; as a script, on Linux, in a network
namespace of its own.

A step is a list: what to do, then names of programs (``P1`` ...) and links, then options. The answer to a step is an
errno's name, or the place as BPF_PROG_QUERY tells it: revision, programs by name, which of them are links.
"""

import json
import sys
from typing import Any

from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

INGRESS = AttachType.TCX_INGRESS
FLAGS = {"replace": 1 << 2, "before": 1 << 3, "after": 1 << 4, "id": 1 << 5, "link": 1 << 13}
LO = 1


class Place:
    """The ingress of the loopback device of one kernel."""

    def __init__(self, bpf: Any) -> None:
        self.bpf = bpf
        self.progs: dict[str, int] = {}
        self.links: dict[str, int] = {}
        self.names: dict[int, str] = {}

    def prog(self, name: str) -> int:
        """Load a program once; ``S...`` is a socket filter."""
        if name == "bad":
            return 987
        if name not in self.progs:
            kind = ProgType.SOCKET_FILTER if name.startswith("S") else ProgType.SCHED_CLS
            fd = self.progs[name] = self.bpf.prog_load(kind, encode(assemble("r0 = 0; exit")), name=name).fd
            self.names[self.bpf.obj_get_info_by_fd(fd).id] = name
        return self.progs[name]

    def options(self, given: dict[str, Any]) -> dict[str, int]:
        """Return libbpf's options: flags by name, ``rel`` a program or link, by its id where the flags say so."""
        flags = sum(FLAGS[word] for word in given.get("flags", "").split())
        opts = {"flags": flags}
        if "rel" in given:
            name = given["rel"]
            fd = self.links[name] if name in self.links else self.prog(name)
            opts["relative_fd"] = self.bpf.obj_get_info_by_fd(fd).id if flags & FLAGS["id"] and fd != 987 else fd
        if "revision" in given:
            opts["expected_revision"] = given["revision"]
        if "old" in given:
            opts["replace_bpf_fd"] = self.prog(given["old"])
        return opts

    def step(self, what: str, name: str = "", given: dict[str, Any] | None = None) -> Any:
        """Do one step and return its answer."""
        given = given or {}
        try:
            match what:
                case "attach":
                    self.bpf.prog_attach(self.prog(name), LO, INGRESS, **self.options(given))
                case "detach":
                    self.bpf.prog_detach(self.prog(name) if name else 0, LO, INGRESS, **self.options(given))
                case "link":
                    prog = self.prog(given["prog"])
                    self.links[name] = self.bpf.link_create(prog, LO, INGRESS, **self.options(given))
                case "update":
                    old = {"old_prog_fd": self.prog(given["old"]), "flags": 4} if "old" in given else {}
                    self.bpf.link_update(self.links[name], self.prog(given["prog"]), **old)
                case "unlink":
                    self.bpf.link_detach(self.links[name])
                case "close":
                    self.bpf.close(self.links.pop(name))
                case "info":
                    info = self.bpf.obj_get_info_by_fd(self.links[name])
                    return [info.type, info.ifindex, info.attach_type]
            found = self.bpf.prog_query(LO, INGRESS)
        except KernelError as error:
            return error.errno_name
        linked = [bool(each) for each in found.link_ids]
        return [found.revision, [self.names[each] for each in found.prog_ids], linked]


def answers(bpf: Any, steps: list[list[Any]]) -> list[Any]:
    """Do steps on a fresh place."""
    place = Place(bpf)
    said = [place.step(*step) for step in steps]
    for name in list(place.links):
        place.step("close", name)
    for name in place.progs:
        place.step("detach", name)
    return said


if __name__ == "__main__":
    from ebpfsim.live import Bpf
    from ebpfsim.live.sys import libc

    live = Bpf()
    assert libc().unshare(0x40000000) == 0  # CLONE_NEWNET
    json.dump([answers(live, steps) for steps in json.load(sys.stdin)], sys.stdout)
