"""What is found out about a call of a kernel function (struct bpf_kfunc_call_arg_meta, v6.18)."""

from ebpfsim.btf.types import Type, Void
from ebpfsim.helpers.kfuncs import KF_RELEASE, KF_TRUSTED_ARGS
from ebpfsim.maps.map import Map, SpecialField
from ebpfsim.progs.regtypes import (
    CONST_PTR_TO_MAP,
    MEM_ALLOC,
    NON_OWN_REF,
    PTR_TO_SOCK_COMMON,
    PTR_TO_SOCKET,
    PTR_TO_TCP_SOCK,
    PTR_TRUSTED,
)
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.kfunc import Kfunc
from ebpfsim.verifier.state import Reg

__all__ = ["KfuncMeta"]

# a program may pass the context where the kernel's structure behind it is asked for (btf_is_projection_of)
PROJECTIONS = {"__sk_buff": "sk_buff", "xdp_md": "xdp_buff"}
TRUSTED_MODIFIERS = MEM_ALLOC | PTR_TRUSTED | NON_OWN_REF
# reg2btf_ids: the kernel types of registers that are no PTR_TO_BTF_ID
REG_TYPES = {
    PTR_TO_SOCKET: "sock",
    PTR_TO_SOCK_COMMON: "sock_common",
    PTR_TO_TCP_SOCK: "tcp_sock",
    CONST_PTR_TO_MAP: "bpf_map",
}


class KfuncMeta:
    """What was found out about the arguments of a call (``struct bpf_kfunc_call_arg_meta``)."""

    def __init__(self, kfunc: Kfunc) -> None:
        self.kfunc = kfunc
        self.name = kfunc.name
        self.flags = kfunc.flags
        self.ref_obj_id = 0
        self.release_regno = 0
        self.constant: int | None = None
        self.r0_size = 0
        self.r0_rdonly = False
        self.subprogno = 0
        self.dynptr: Reg | None = None
        self.iter = (0, 0)
        self.map: Map | None = None
        self.map_uid = 0
        self.arg_type: BtfId | None = None
        self.arg_owning_ref = False
        self.root: SpecialField | None = None

    @property
    def trusted_args(self) -> bool:
        """Whether pointers must be valid (``is_kfunc_trusted_args``)."""
        return bool(self.flags & (KF_TRUSTED_ARGS | KF_RELEASE))


def kind_name(type_: Type) -> str:
    """Return the kind of a type in capitals (``btf_type_str``)."""
    return "UNKNOWN" if isinstance(type_, Void) else type_.kind.name
