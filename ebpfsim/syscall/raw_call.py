"""One call of bpf(2) as bytes: the fields that it gave, its memory, and where results go."""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.memory.user import UserFault, UserMemory
from ebpfsim.syscall.common import op_of
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import BpfCmd
from ebpfsim.uapi.bpf_attr import Layout

if TYPE_CHECKING:
    from ebpfsim.syscall.bpf import Bpf

__all__ = ["Call", "elements", "refuse", "refuse_token", "text_of"]


@dataclass(slots=True)
class Call:
    """One call: who makes it, the fields that it gave, and where results go."""

    bpf: "Bpf"
    cmd: BpfCmd
    layout: Layout
    data: bytes  # what the caller gave, filled up with zeroes
    given: Mapping[str, int | bytes]
    attr: bytearray  # as the caller has it

    @property
    def op(self) -> str:
        """libbpf's name of the command."""
        return op_of(self.cmd)

    @property
    def user(self) -> UserMemory:
        """The caller's memory."""
        return self.bpf.user

    def number(self, name: str) -> int:
        """Return a field that is a number."""
        value = self.given[name]
        assert isinstance(value, int)
        return value

    def put(self, name: str, value: int) -> None:
        """Write a field of the caller's union, if that is long enough to have it."""
        field = self.layout.fields[name]
        layout = Struct(field.format)
        if field.off + layout.size <= len(self.attr):
            layout.pack_into(self.attr, field.off, value & ((1 << 8 * layout.size) - 1))

    def read(self, name: str, size: int) -> bytes:
        """Return the bytes behind a pointer."""
        return self.user.read(self.number(name), size)

    def write(self, name: str, data: bytes) -> None:
        """Store bytes behind a pointer."""
        self.user.write(self.number(name), data)

    def fail(self, errno: int, detail: str) -> KernelError:
        """Return the refusal."""
        return KernelError(self.op, errno, detail)


def elements(call: Call, name: str, size: int, count: int) -> tuple[list[bytes], bool]:
    """Return as many elements of that size as user memory holds behind a pointer, and whether that is all."""
    found = []
    for number in range(count):
        try:
            found.append(call.user.read(call.number(name) + number * size, size))
        except UserFault:
            return found, False
    return found, True


def refuse(call: Call, *names: str) -> None:
    """Say of fields that are not zero that they are not modelled."""
    for name in names:
        if call.number(name):
            raise NotModelled(f"bpf({call.cmd.kernel_name}) with {name}", "kernel/bpf/syscall.c")


def refuse_token(call: Call, flags: str) -> None:
    """Refuse the flag that says that a token comes along: there are none, so none is behind any descriptor."""
    if call.number(flags) & f.BPF_F_TOKEN_FD:
        raise call.fail(Errno.EINVAL, "the descriptor of a token that is none")


def text_of(value: int | bytes) -> str:
    """Return the text in a field, up to its NUL."""
    assert isinstance(value, bytes)
    return value.split(b"\0")[0].decode("utf-8", "surrogateescape")
