"""Steps on control groups, for both kernels; as a script, on a Linux to be thrown away.

A step is what to do and its arguments; the answer is ``ok``, an errno, or what was asked for.
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

# by the first letter of a program's name: type, expected attach type
PROGRAMS = {
    "E": (P.CGROUP_SKB, A.CGROUP_INET_EGRESS),
    "I": (P.CGROUP_SKB, A.CGROUP_INET_INGRESS),
    "S": (P.CGROUP_SOCK, A.CGROUP_INET_SOCK_CREATE),
    "C": (P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_CONNECT),
    "D": (P.CGROUP_DEVICE, A(0)),
    "X": (P.XDP, A(0)),
}
KINDS = {
    "egress": A.CGROUP_INET_EGRESS,
    "ingress": A.CGROUP_INET_INGRESS,
    "create": A.CGROUP_INET_SOCK_CREATE,
    "connect": A.CGROUP_INET4_CONNECT,
    "device": A.CGROUP_DEVICE,
}
EFFECTIVE = 1
ROOT = Path("/sys/fs/cgroup")


class Simulated:
    """Control groups of the simulated kernel."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.bpf = kernel, kernel.bpf

    def mkdir(self, path: str) -> None:
        """Make a group."""
        self.kernel.cgroups.mkdir(path)

    def rmdir(self, path: str) -> None:
        """Remove a group."""
        self.kernel.cgroups.rmdir(path)

    def open(self, path: str) -> int:
        """Return a descriptor of a group."""
        group = self.kernel.cgroups.find(path)
        if group is None:
            raise KernelError("open", 2)
        group.get()
        fd: int = self.kernel.fds.install(group)
        return fd

    def number(self, path: str) -> int:
        """Return the id of a group."""
        found: int = self.kernel.cgroups.find(path).cgroup_id
        return found


class Linux:
    """Control groups of the running kernel, below one of their own."""

    def __init__(self) -> None:
        from ebpfsim.live import Bpf

        self.bpf = Bpf(confined=False)

    def mkdir(self, path: str) -> None:
        """Make a group."""
        (ROOT / path).mkdir(parents=True, exist_ok=True)

    def rmdir(self, path: str) -> None:
        """Remove a group."""
        try:
            (ROOT / path).rmdir()
        except OSError as error:
            raise KernelError("rmdir", error.errno or 0) from None

    def open(self, path: str) -> int:
        """Return a descriptor of a group."""
        try:
            return os.open(ROOT / path, os.O_RDONLY)
        except OSError as error:
            raise KernelError("open", error.errno or 0) from None

    def number(self, path: str) -> int:
        """Return the id of a group."""
        return (ROOT / path).stat().st_ino


class Lab:
    """Groups, programs and links of a sequence of steps; paths are below ``base``."""

    def __init__(self, kernel: Any, base: str) -> None:
        self.kernel, self.bpf, self.base = kernel, kernel.bpf, base
        self.progs: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.links: dict[str, int] = {}
        self.fds: dict[str, int] = {}
        self.numbers: dict[int, str] = {0: ""}

    def step(self, what: str, *args: Any) -> Any:
        """Do one step; return what came of it or the errno."""
        try:
            return getattr(self, what)(*args)
        except KernelError as error:
            return error.errno_name
        except KeyError as error:
            return f"no {error}"

    def _prog(self, name: str) -> int:
        if name == "bad":
            return 987
        if name not in self.progs:
            prog_type, kind = PROGRAMS[name[0]]
            code = encode(assemble("r0 = 1; exit"))
            fd = self.progs[name] = self.bpf.prog_load(prog_type, code, name=name, expected_attach_type=kind).fd
            self.names[self.bpf.obj_get_info_by_fd(fd).id] = name
        return self.progs[name]

    def mkdir(self, path: str) -> str:
        """Make a group and keep a descriptor of it."""
        full = f"{self.base}/{path}"
        self.kernel.mkdir(full)
        self.fds[path] = self.kernel.open(full)
        self.numbers[self.kernel.number(full)] = path
        return "ok"

    def rmdir(self, path: str) -> str:
        """Remove a group; the descriptor stays."""
        self.kernel.rmdir(f"{self.base}/{path}")
        return "ok"

    def attach(self, path: str, prog: str, kind: str, flags: int = 0, replace: str = "") -> str:
        """BPF_PROG_ATTACH."""
        more = {"replace_bpf_fd": self._prog(replace)} if replace else {}
        self.bpf.prog_attach(self._prog(prog), self.fds[path], KINDS[kind], flags=flags, **more)
        return "ok"

    def detach(self, path: str, prog: str, kind: str) -> str:
        """BPF_PROG_DETACH; no program is descriptor 0."""
        self.bpf.prog_detach(self._prog(prog) if prog else 0, self.fds[path], KINDS[kind])
        return "ok"

    def link(self, name: str, path: str, prog: str, kind: str, flags: int = 0) -> str:
        """BPF_LINK_CREATE."""
        self.links[name] = self.bpf.link_create(self._prog(prog), self.fds[path], KINDS[kind], flags=flags)
        return "ok"

    def update(self, link: str, prog: str, old: str = "") -> str:
        """BPF_LINK_UPDATE."""
        more = {"old_prog_fd": self._prog(old), "flags": 4} if old else {}
        self.bpf.link_update(self.links[link], self._prog(prog), **more)
        return "ok"

    def unlink(self, link: str) -> str:
        """BPF_LINK_DETACH."""
        self.bpf.link_detach(self.links[link])
        return "ok"

    def close(self, link: str) -> str:
        """Close the descriptor of a link."""
        self.bpf.close(self.links.pop(link))
        return "ok"

    def info(self, link: str) -> list[Any]:
        """Tell a link's type, program, group and attach type."""
        info = self.bpf.obj_get_info_by_fd(self.links[link])
        group = self.numbers[info.details["cgroup_id"]]
        return [int(info.type), self.names[info.prog_id], group, info.details["attach_type"]]

    def query(self, path: str, kind: str, query_flags: int = 0) -> list[Any]:
        """BPF_PROG_QUERY: programs in order, and flags."""
        found = self.bpf.prog_query(self.fds[path], KINDS[kind], query_flags=query_flags)
        return [[self.names[each] for each in found.prog_ids], found.attach_flags]

    def end(self) -> None:
        """Close and remove everything."""
        for link in list(self.links):
            self.close(link)
        for path in sorted(self.fds, key=len, reverse=True):
            with contextlib.suppress(KernelError):
                self.kernel.rmdir(f"{self.base}/{path}")
            self.bpf.close(self.fds[path])
        for fd in self.progs.values():
            self.bpf.close(fd)


def answers(kernel: Any, steps: list[list[Any]], base: str = "walk") -> list[Any]:
    """Do steps and return their answers."""
    lab = Lab(kernel, base)
    found = [lab.step(*step) for step in steps]
    lab.end()
    return found


if __name__ == "__main__":
    linux = Linux()
    walks = json.loads(Path(sys.argv[1]).read_text())
    found = [answers(linux, steps, f"walk{number}") for number, steps in enumerate(walks)]
    Path(os.environ.get("OUT", "."), sys.argv[2]).write_text(json.dumps(found))
