"""Programs on what tasks do, which keep numbers in an array."""

import re
import struct
from typing import Any

import ebpfsim
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.bpf import ProgType as P

STORE = (
    "*(u32 *)(r10 - 4) = {key}; *(u64 *)(r10 - 16) = r7; r1 = map_fd[{fd}] ll; r2 = r10; r2 += -4; r3 = r10; "
    "r3 += -16; r4 = 0; call bpf_map_update_elem"
)


def code(text: str) -> bytes:
    """Return a program; ``kfunc NAME`` calls a function of the kernel."""

    def by_id(match: re.Match[str]) -> str:
        return f"call {match[1]}#{vmlinux().find(match[1], Kind.FUNC)}"

    return encode(assemble(re.sub(r"kfunc (bpf_\w+)", by_id, text)))


class Lab:
    """A host; ``keep`` is text that puts R7 into the array, ``value`` reads it."""

    def __init__(self) -> None:
        self.host = ebpfsim.Simulation(seed=1).host("h")
        self.map = self.host.bpf.map_create(MapType.ARRAY, 4, 8, 4)

    def keep(self, key: int) -> str:
        """Put R7 into the array."""
        return STORE.format(key=key, fd=self.map)

    def value(self, key: int) -> int:
        value = self.host.bpf.map_lookup_elem(self.map, struct.pack("<I", key))
        return int.from_bytes(value, "little", signed=True)

    def trace(self, kind: A, target: str, text: str, type_: P = P.TRACING, *, sleepable: bool = False) -> None:
        host = self.host
        fd = host.bpf.prog_load(
            type_, code(text + "; r0 = 0; exit"), license="GPL", expected_attach_type=kind,
            attach_btf_id=vmlinux().find(target, Kind.FUNC) or 0, prog_flags=0x10 if sleepable else 0,
        ).fd  # fmt: skip
        host.attach_lsm(fd) if type_ == P.LSM else host.attach_fentry(fd)

    def kprobe(self, function: str, text: str, *, end: str = "; r0 = 0; exit") -> Any:
        fd = self.host.bpf.prog_load(P.KPROBE, code(text + end), license="GPL").fd
        return self.host.attach_kprobe(fd, function)
