"""bpf(2) as bytes, by the names of fields."""

from typing import Any

from ebpfsim.uapi.bpf import BpfCmd
from ebpfsim.uapi.bpf_attr import ATTRS

__all__ = ["Raw"]


class Raw:
    """Calls by field name; ``out`` holds the fields afterwards."""

    def __init__(self, bpf: Any) -> None:
        self.bpf, self.user = bpf, bpf.user
        self.out: dict[str, int | bytes] = {}

    def __call__(self, cmd: BpfCmd, **fields: int | bytes) -> int:
        attr = ATTRS[cmd].pack(fields)
        try:
            result: int = self.bpf.raw(cmd, attr)
            return result
        finally:
            self.out = ATTRS[cmd].unpack(attr)
