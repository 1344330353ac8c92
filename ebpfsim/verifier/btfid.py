"""Which type of which BTF a PTR_TO_BTF_ID leads to (``btf`` and ``btf_id`` of ``struct bpf_reg_state``, v6.18)."""

from typing import NamedTuple

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Type
from ebpfsim.progs.regtypes import PTR_MAYBE_NULL, PTR_TO_BTF_ID
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.state import Reg, pointer

__all__ = ["BtfId", "btf_pointer"]


class BtfId(NamedTuple):
    """``Reg.raw`` of a PTR_TO_BTF_ID."""

    btf: Btf
    id: int

    @property
    def name(self) -> str:
        """The name of the type (``btf_type_name``)."""
        return self.btf.name_of(self.id)

    @property
    def target(self) -> Type:
        """The type."""
        return self.btf.type(self.id)


def btf_pointer(env: Env, flags: int, btf: Btf, type_id: int) -> Reg:
    """Return a fresh PTR_TO_BTF_ID; one that may be NULL gets an id."""
    reg = pointer(PTR_TO_BTF_ID | flags, BtfId(btf, type_id))
    if flags & PTR_MAYBE_NULL:
        reg.id = env.next_id()
    return reg
