"""Questions about links of iterators, for both kernels: errnos, replacement, maps whose elements can be shown."""

import ctypes
import os
import struct
from collections.abc import Callable
from typing import Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, BpfCmd, MapType, ProgType

SHOW = """
    r6 = r1; r7 = *(u64 *)(r6 + 8); if r7 == 0 goto out; r1 = *(u64 *)(r6 + 0); r1 = *(u64 *)(r1 + 0)
    *(u64 *)(r10 - 8) = 0x0a585858; r2 = r10; r2 += -8; r3 = 4; call bpf_seq_write; out: r0 = 0; exit
"""
# a word behind four bytes of the key (16) or value (24), a store to the value
BEHIND = "r6 = *(u64 *)(r1 + {at}); if r6 == 0 goto out; r2 = *(u32 *)(r6 + 4); out: r0 = 0; exit"
STORE = "r6 = *(u64 *)(r1 + 24); if r6 == 0 goto out; *(u32 *)(r6 + 0) = 7; out: r0 = 0; exit"
# bytes of key and value, entries, flags
SIZES = {
    MapType.RINGBUF: (0, 0, 4096, 0), MapType.USER_RINGBUF: (0, 0, 4096, 0), MapType.QUEUE: (0, 4, 2, 0),
    MapType.STACK: (0, 4, 2, 0), MapType.BLOOM_FILTER: (0, 4, 2, 0), MapType.LPM_TRIE: (8, 4, 2, 1),
    MapType.STACK_TRACE: (4, 8, 2, 0), MapType.ARENA: (0, 0, 2, 0x400), MapType.REUSEPORT_SOCKARRAY: (4, 8, 2, 0),
}  # fmt: skip
ASKED_TYPES = (
    *("HASH", "ARRAY", "PROG_ARRAY", "PERCPU_HASH", "PERCPU_ARRAY", "STACK_TRACE", "LRU_HASH", "LRU_PERCPU_HASH"),
    *("LPM_TRIE", "ARRAY_OF_MAPS", "HASH_OF_MAPS", "DEVMAP", "SOCKMAP", "CPUMAP", "SOCKHASH", "QUEUE", "RINGBUF"),
    *("BLOOM_FILTER", "DEVMAP_HASH", "CGROUP_ARRAY", "PERF_EVENT_ARRAY"),
)


class Simulated:
    """The simulated kernel."""

    def __init__(self, bpf: Any) -> None:
        self.bpf = bpf

    def raw(self, command: BpfCmd, attr: bytes) -> int:
        """Make a call."""
        made: int = self.bpf.raw(command, bytearray(attr))
        return made

    def place(self, data: bytes) -> int:
        """Return where bytes are."""
        address: int = self.bpf.user.alloc(len(data), data)
        return address

    def function(self, name: str) -> int:
        """Return the number of a function in the kernel's BTF."""
        return vmlinux().find(name, Kind.FUNC) or 0

    def read(self, fd: int, count: int) -> bytes:
        """read(2)."""
        data: bytes = self.bpf.kernel.fds.lookup(fd).read(count)
        return data


class Live(Simulated):
    """The kernel of this machine: iterators only look."""

    def __init__(self) -> None:
        from ebpfsim.live import Bpf

        super().__init__(Bpf())
        self._kept: list[Any] = []
        with open("/sys/kernel/btf/vmlinux", "rb") as file:
            self._btf = Btf(file.read(), where="vmlinux")

    def raw(self, command: BpfCmd, attr: bytes) -> int:
        """Make a call."""
        from ebpfsim.live.sys import bpf_bytes

        return bpf_bytes(command, attr)

    def place(self, data: bytes) -> int:
        """Return where bytes are."""
        from ebpfsim.live.sys import buffer

        self._kept.append(buffer(data))
        return ctypes.addressof(self._kept[-1])

    def function(self, name: str) -> int:
        """Return the number of a function in the kernel's BTF."""
        return self._btf.find(name, Kind.FUNC) or 0

    def read(self, fd: int, count: int) -> bytes:
        """read(2)."""
        try:
            return os.read(fd, count)
        except OSError as error:
            raise KernelError("read", error.errno or 0) from None


def tried(call: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """Return the errno of a call, "ok" where it gives a descriptor or nothing, else what it gives."""
    try:
        found = call(*args, **more)
    except KernelError as error:
        return error.errno_name
    return found if isinstance(found, bytes) else "ok"


def answers(kernel: Any) -> dict[str, Any]:
    """Ask everything."""
    said: dict[str, Any] = {}
    bpf = kernel.bpf

    def load(target: str, code: str) -> int:
        number = kernel.function(f"bpf_iter_{target}")
        kind = AttachType.TRACE_ITER
        fd: int = bpf.prog_load(
            ProgType.TRACING, encode(assemble(code)), expected_attach_type=kind, attach_btf_id=number
        ).fd
        return fd

    def link(prog: int, target: int = 0, flags: int = 0, info: bytes = b"", size: int | None = None) -> int:
        where = kernel.place(info) if info else 0
        length = len(info) if size is None else size
        attr = struct.pack("<IIIIQI4x", prog, target, AttachType.TRACE_ITER, flags, where, length)
        made: int = kernel.raw(BpfCmd.LINK_CREATE, attr)
        return made

    def elements(prog: int, map_fd: int) -> int:
        return link(prog, info=struct.pack("<I", map_fd))

    maps, again, progs = load("bpf_map", SHOW), load("bpf_map", SHOW), load("bpf_prog", SHOW)
    first = link(maps)
    array = bpf.map_create(MapType.ARRAY, 4, 4, 1)
    xdp = bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 1; exit"))).fd
    said |= {f"flags {flags}": tried(link, maps, 0, flags) for flags in (1, 2)}
    said |= {f"target {name}": tried(link, maps, fd) for name, fd in (("5", 5), ("a map", array))}
    infos = {"4 bytes": (bytes(4), None), "a pointer to nothing": (bytes(4), 0), "no pointer": (b"", 4)}
    infos |= {"64 bytes": (bytes(64), None), "64 bytes, the last not 0": (bytes(63) + b"\1", None)}
    said |= {f"info of {name}": tried(link, maps, 0, 0, *info) for name, info in infos.items()}
    said["update to another target"] = tried(bpf.link_update, first, progs)
    said["update"] = tried(bpf.link_update, first, again)
    said["update, wrong old"] = tried(bpf.link_update, first, maps, old_prog_fd=progs, flags=4)
    said["update, right old"] = tried(bpf.link_update, first, maps, old_prog_fd=again, flags=4)
    said["update, old without flag"] = tried(bpf.link_update, first, maps, old_prog_fd=again)
    said["update to XDP"] = tried(bpf.link_update, first, xdp)
    said["detach"] = tried(bpf.link_detach, first)
    opened = kernel.raw(BpfCmd.ITER_CREATE, struct.pack("<II", first, 0))
    for name, fd, flags in (("flags", first, 1), ("a program", maps, 0), ("an iterator", opened, 0)):
        said[f"iterator of {name}"] = tried(kernel.raw, BpfCmd.ITER_CREATE, struct.pack("<II", fd, flags))
    said |= {f"read {count}": tried(kernel.read, opened, count) for count in (2, 1, 0)}
    stops = kernel.raw(BpfCmd.ITER_CREATE, struct.pack("<II", link(load("bpf_map", "r0 = 1; exit")), 0))
    said |= {f"read of one that stops, {number}": tried(kernel.read, stops, 10) for number in (1, 2)}
    said["a program that returns 2"] = tried(load, "bpf_map", "r0 = 2; exit")
    _elements(said, kernel, lambda prog, fd: tried(elements, prog, fd), load)
    said["elements of no map"] = tried(link, load("bpf_map_elem", "r0 = 0; exit"))
    return said


def _elements(said: dict[str, Any], kernel: Any, elements: Callable[[int, int], Any], load: Callable[..., int]) -> None:
    bpf, shown = kernel.bpf, load("bpf_map_elem", "r0 = 0; exit")
    said |= {f"elements of {name}": elements(shown, fd) for name, fd in (("0", 0), ("999", 999), ("a program", shown))}
    for name in ASKED_TYPES:
        kind = MapType[name]
        *sizes, flags = SIZES.get(kind, (4, 4, 2, 0))
        inner = {"inner_map_fd": bpf.map_create(MapType.ARRAY, 4, 4, 1)} if name.endswith("OF_MAPS") else {}
        said[f"elements of {name}"] = elements(shown, bpf.map_create(kind, *sizes, map_flags=flags, **inner))
    key, value, store = (load("bpf_map_elem", text) for text in (BEHIND.format(at=16), BEHIND.format(at=24), STORE))
    rows = [
        ("8 bytes of a key of 4", key, (MapType.HASH, 4, 4)), ("8 bytes of a key of 8", key, (MapType.HASH, 8, 4)),
        ("8 bytes of a value of 4", value, (MapType.HASH, 4, 4)), ("8 bytes of 8", value, (MapType.HASH, 4, 8)),
        ("8 bytes of a value of 5", value, (MapType.HASH, 4, 5)), ("8 of an array's 4", value, (MapType.ARRAY, 4, 4)),
        ("8 bytes of 5 for each CPU", value, (MapType.PERCPU_HASH, 4, 5)), ("a store", store, (MapType.HASH, 4, 4)),
        ("a store for each CPU", store, (MapType.PERCPU_ARRAY, 4, 4)),
    ]  # fmt: skip
    said |= {name: elements(prog, bpf.map_create(*sizes, 2)) for name, prog, sizes in rows}
