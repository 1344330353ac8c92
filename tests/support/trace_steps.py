"""Steps of programs that trace functions of the kernel, for both kernels; as a script, on a Linux to be thrown away.

Programs have names of one letter. A run of the kernel's test functions (BPF_PROG_TEST_RUN) tells in which order they
ran; programs write their letters into a map themselves, so both kernels run the same code.
"""

import contextlib
import ctypes
import json
import os
import sys
from pathlib import Path
from struct import pack, unpack_from
from typing import Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Kind
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.bpf import ProgType as P

KINDS = {
    "fentry": (P.TRACING, A.TRACE_FENTRY),
    "fexit": (P.TRACING, A.TRACE_FEXIT),
    "fmod_ret": (P.TRACING, A.MODIFY_RETURN),
    "lsm": (P.LSM, A.LSM_MAC),
    "kprobe": (P.KPROBE, A(0)),
    "multi": (P.KPROBE, A.TRACE_KPROBE_MULTI),
    "session": (P.KPROBE, A.TRACE_KPROBE_SESSION),
    "raw_tp": (P.RAW_TRACEPOINT, A(0)),
    "tp_btf": (P.TRACING, A.TRACE_RAW_TP),
}
SLEEPABLE = 1 << 4
ROOM = 248
WRITE = """
    *(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map_fd[{fd}]; call bpf_map_lookup_elem; if r0 == 0 goto out;
    r1 = *(u32 *)(r0 + 0); if r1 > 200 goto out; r2 = r0; r2 += r1; *(u8 *)(r2 + 8) = {letter}; r1 += 1;
    *(u32 *)(r0 + 0) = r1; out: r0 = {ret}; exit
"""
PERF_EVENT_OPEN = 298


class Simulated:
    """What steps need of the simulated kernel."""

    def __init__(self, kernel: Any) -> None:
        from ebpfsim.btf.vmlinux import vmlinux

        self.kernel, self.bpf, self.btf = kernel, kernel.bpf, vmlinux()

    def event(self, symbol: str, is_return: bool) -> int:
        """Return a perf event of a kprobe."""
        fd: int = self.kernel.fds.install(self.kernel.kprobes.open(symbol, is_return=is_return))
        return fd


class Linux:
    """What steps need of the running kernel."""

    def __init__(self) -> None:
        from ebpfsim.live import Bpf
        from ebpfsim.live.sys import libc

        self.bpf, self.libc = Bpf(confined=False), libc()
        self.btf = Btf(Path("/sys/kernel/btf/vmlinux").read_bytes())
        self.type = int(Path("/sys/bus/event_source/devices/kprobe/type").read_text())

    def event(self, symbol: str, is_return: bool) -> int:
        """Return a perf event of a kprobe."""
        name = ctypes.create_string_buffer(symbol.encode())
        attr = bytearray(136)
        attr[:16] = pack("<IIQ", self.type, 136, int(is_return))
        attr[56:72] = pack("<QQ", ctypes.addressof(name), 0)
        data = (ctypes.c_char * 136).from_buffer(attr)
        fd: int = self.libc.syscall(PERF_EVENT_OPEN, data, -1, 0, -1, 8)
        if fd < 0:
            raise KernelError("perf_event_open", ctypes.get_errno())
        return fd


class Lab:
    """Programs, links and events of a sequence of steps."""

    def __init__(self, kernel: Any) -> None:
        self.kernel, self.bpf = kernel, kernel.bpf
        self.progs: dict[str, int] = {}
        self.kinds: dict[str, A] = {}
        self.names: dict[int, str] = {}
        self.links: dict[str, int] = {}
        self.events: dict[str, int] = {}
        self.map = self.bpf.map_create(MapType.ARRAY, 4, ROOM, 1)
        self.drivers = [self._load("fentry", "bpf_fentry_test1"), self._load("fmod_ret", "bpf_modify_return_test")]

    def step(self, what: str, *args: Any) -> Any:
        """Do one step; return what came of it or the errno."""
        try:
            return getattr(self, what)(*args)
        except KernelError as error:
            return error.errno_name
        except KeyError as error:
            return f"no {error}"

    def _load(self, kind: str, function: str, letter: str = "", ret: int = 0, flags: int = 0) -> int:
        prog_type, attach_type = KINDS[kind]
        attributes: dict[str, Any] = {"expected_attach_type": attach_type, "prog_flags": flags}
        if prog_type in (P.TRACING, P.LSM):
            wanted = Kind.TYPEDEF if kind == "tp_btf" else Kind.FUNC
            attributes["attach_btf_id"] = self.kernel.btf.find(function, wanted) or 0
        code = f"r0 = {ret}; exit"
        if letter:
            code = WRITE.format(fd=self.map, letter=ord(letter), ret=ret)
        fd: int = self.bpf.prog_load(prog_type, encode(assemble(code)), name=letter or "driver", **attributes).fd
        return fd

    def load(self, name: str, kind: str, function: str = "", ret: int = 0, flags: int = 0) -> str:
        """Load a program."""
        fd = self._load(kind, function, name, ret, flags)
        if name in self.progs:
            self.bpf.close(self.progs[name])
        self.progs[name] = fd
        self.kinds[name] = KINDS[kind][1]
        self.names[self.bpf.obj_get_info_by_fd(fd).id] = name
        return "ok"

    def _keep(self, name: str, fd: int) -> str:
        self.links[name] = fd
        return "ok"

    def link(self, name: str, prog: str, opts: dict[str, Any] | None = None) -> str:
        """BPF_LINK_CREATE; the attach type is the program's unless ``type`` says otherwise."""
        opts = dict(opts or {})
        kind = opts.pop("type", self.kinds[prog])
        target = opts.pop("target", 0)
        target = self.events[target] if target in self.events else self.progs[target] if target else 0
        return self._keep(name, self.bpf.link_create(self.progs[prog], target, kind, **opts))

    def raw(self, name: str, prog: str, tracepoint: str = "") -> str:
        """BPF_RAW_TRACEPOINT_OPEN."""
        return self._keep(name, self.bpf.raw_tracepoint_open(tracepoint, self.progs[prog]))

    def event(self, name: str, symbol: str, is_return: bool) -> str:
        """Make the perf event of a kprobe."""
        self.events[name] = self.kernel.event(symbol, is_return)
        return "ok"

    def close_event(self, name: str) -> str:
        """Close the descriptor of an event."""
        self.bpf.close(self.events.pop(name))
        return "ok"

    def close(self, name: str) -> str:
        """Close the descriptor of a link."""
        self.bpf.close(self.links.pop(name))
        return "ok"

    def close_prog(self, name: str) -> str:
        """Close the descriptor of a program."""
        self.bpf.close(self.progs.pop(name))
        return "ok"

    def update(self, link: str, prog: str, old: str = "") -> str:
        """BPF_LINK_UPDATE."""
        more = {"old_prog_fd": self.progs[old], "flags": 4} if old else {}
        self.bpf.link_update(self.links[link], self.progs[prog], **more)
        return "ok"

    def detach(self, link: str) -> str:
        """BPF_LINK_DETACH."""
        self.bpf.link_detach(self.links[link])
        return "ok"

    def info(self, link: str) -> list[Any]:
        """Tell a link's type, program, attach type and function."""
        info = self.bpf.obj_get_info_by_fd(self.links[link])
        found = [int(info.type), self.names.get(info.prog_id, "")]
        if info.type == 2:
            found += [info.details["attach_type"], self.kernel.btf.type(info.details["target_btf_id"]).name]
        return found

    def fire(self) -> list[Any]:
        """Let the kernel run its test functions; tell who ran, and what came of it."""
        self.bpf.map_update_elem(self.map, bytes(4), bytes(ROOM))
        said: list[Any] = []
        for fd in self.drivers:
            try:
                said.append(self.bpf.prog_test_run(fd).retval)
            except KernelError as error:
                said.append(error.errno_name)
        found = self.bpf.map_lookup_elem(self.map, bytes(4))
        return [found[8 : 8 + unpack_from("<I", found)[0]].decode(), *said]

    def missed(self, prog: str) -> int:
        """Tell how often a program was skipped."""
        found: int = self.bpf.obj_get_info_by_fd(self.progs[prog]).recursion_misses
        return found

    def end(self) -> None:
        """Close everything."""
        everything = (*self.links.values(), *self.events.values(), *self.progs.values(), *self.drivers, self.map)
        for fd in everything:
            with contextlib.suppress(KernelError, OSError):
                self.bpf.close(fd)


def answers(kernel: Any, steps: list[list[Any]]) -> list[Any]:
    """Do steps and return their answers."""
    lab = Lab(kernel)
    found = [lab.step(*step) for step in steps]
    lab.end()
    return found


if __name__ == "__main__":
    linux = Linux()
    walks = json.loads(Path(sys.argv[1]).read_text())
    Path(os.environ.get("OUT", "."), sys.argv[2]).write_text(json.dumps([answers(linux, steps) for steps in walks]))
