"""Which types of registers the arguments of helpers take (compatible_reg_types and check_reg_type(), v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.protos import (
    ARG_CONST_ALLOC_SIZE_OR_ZERO,
    ARG_CONST_MAP_PTR,
    ARG_CONST_SIZE,
    ARG_CONST_SIZE_OR_ZERO,
    ARG_KPTR_XCHG_DEST,
    ARG_PTR_TO_BTF_ID,
    ARG_PTR_TO_BTF_ID_SOCK_COMMON,
    ARG_PTR_TO_CONST_STR,
    ARG_PTR_TO_CTX,
    ARG_PTR_TO_DYNPTR,
    ARG_PTR_TO_FUNC,
    ARG_PTR_TO_MAP_KEY,
    ARG_PTR_TO_MAP_VALUE,
    ARG_PTR_TO_MEM,
    ARG_PTR_TO_PERCPU_BTF_ID,
    ARG_PTR_TO_RINGBUF_MEM,
    ARG_PTR_TO_SOCK_COMMON,
    ARG_PTR_TO_SOCKET,
    ARG_PTR_TO_SPIN_LOCK,
    ARG_PTR_TO_STACK,
    ARG_PTR_TO_TIMER,
    func_id_name,
)
from ebpfsim.maps.map import SpecialField
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_DYNPTR,
    CONST_PTR_TO_MAP,
    DYNPTR_TYPE_FLAG_MASK,
    MEM_ALLOC,
    MEM_PERCPU,
    MEM_RCU,
    MEM_RDONLY,
    MEM_RINGBUF,
    PTR_MAYBE_NULL,
    PTR_TO_BTF_ID,
    PTR_TO_BUF,
    PTR_TO_CTX,
    PTR_TO_FUNC,
    PTR_TO_MAP_KEY,
    PTR_TO_MAP_VALUE,
    PTR_TO_MEM,
    PTR_TO_PACKET,
    PTR_TO_PACKET_META,
    PTR_TO_SOCK_COMMON,
    PTR_TO_SOCKET,
    PTR_TO_STACK,
    PTR_TO_TCP_SOCK,
    PTR_TO_XDP_SOCK,
    PTR_TRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.verifier.btf_args import ArgType, check_btf_arg
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.state import reg_type_str

__all__ = ["check_reg_type"]

_SOCKS = (PTR_TO_SOCK_COMMON, PTR_TO_SOCKET, PTR_TO_TCP_SOCK, PTR_TO_XDP_SOCK)
_MEM = (
    PTR_TO_STACK,
    PTR_TO_PACKET,
    PTR_TO_PACKET_META,
    PTR_TO_MAP_KEY,
    PTR_TO_MAP_VALUE,
    PTR_TO_MEM,
    PTR_TO_MEM | MEM_RINGBUF,
    PTR_TO_BUF,
    PTR_TO_BTF_ID | PTR_TRUSTED,
)
# compatible_reg_types
_COMPATIBLE: dict[int, tuple[int, ...]] = {
    ARG_PTR_TO_MAP_KEY: _MEM,
    ARG_PTR_TO_MAP_VALUE: _MEM,
    ARG_CONST_SIZE: (SCALAR_VALUE,),
    ARG_CONST_SIZE_OR_ZERO: (SCALAR_VALUE,),
    ARG_CONST_ALLOC_SIZE_OR_ZERO: (SCALAR_VALUE,),
    ARG_CONST_MAP_PTR: (CONST_PTR_TO_MAP,),
    ARG_PTR_TO_CTX: (PTR_TO_CTX,),
    ARG_PTR_TO_SOCK_COMMON: _SOCKS,
    ARG_PTR_TO_BTF_ID_SOCK_COMMON: (*_SOCKS, PTR_TO_BTF_ID, PTR_TO_BTF_ID | PTR_TRUSTED),
    ARG_PTR_TO_SOCKET: (PTR_TO_SOCKET,),
    ARG_PTR_TO_BTF_ID: (PTR_TO_BTF_ID, PTR_TO_BTF_ID | PTR_TRUSTED, PTR_TO_BTF_ID | MEM_RCU),
    ARG_PTR_TO_SPIN_LOCK: (PTR_TO_MAP_VALUE, PTR_TO_BTF_ID | MEM_ALLOC),
    ARG_PTR_TO_MEM: _MEM,
    ARG_PTR_TO_RINGBUF_MEM: (PTR_TO_MEM | MEM_RINGBUF,),
    ARG_PTR_TO_PERCPU_BTF_ID: (
        PTR_TO_BTF_ID | MEM_PERCPU,
        PTR_TO_BTF_ID | MEM_PERCPU | MEM_RCU,
        PTR_TO_BTF_ID | MEM_PERCPU | PTR_TRUSTED,
    ),
    ARG_PTR_TO_FUNC: (PTR_TO_FUNC,),
    ARG_PTR_TO_STACK: (PTR_TO_STACK,),
    ARG_PTR_TO_CONST_STR: (PTR_TO_MAP_VALUE,),
    ARG_PTR_TO_TIMER: (PTR_TO_MAP_VALUE,),
    ARG_KPTR_XCHG_DEST: (PTR_TO_MAP_VALUE, PTR_TO_BTF_ID | MEM_ALLOC),
    ARG_PTR_TO_DYNPTR: (PTR_TO_STACK, CONST_PTR_TO_DYNPTR),
}


def check_reg_type(env: Env, regno: int, arg_type: int, func_id: int, arg_btf: ArgType = "") -> None:
    """Refuse a register of the wrong type (``check_reg_type``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    type_ = reg.type
    compatible = _COMPATIBLE[arg_type & BASE_TYPE_MASK]
    if arg_type & MEM_RDONLY:
        type_ &= ~MEM_RDONLY
    if arg_type & PTR_MAYBE_NULL:
        type_ &= ~PTR_MAYBE_NULL
    if arg_type & BASE_TYPE_MASK == ARG_PTR_TO_MEM:
        type_ &= ~DYNPTR_TYPE_FLAG_MASK
    if isinstance(arg_btf, SpecialField) and type_ & MEM_ALLOC:
        # objects of the program may go into a kptr
        type_ &= ~(MEM_ALLOC | MEM_PERCPU)
    if type_ not in compatible:
        names = ", ".join(reg_type_str(expected) for expected in compatible)
        raise env.fail(Errno.EACCES, f"R{regno} type={reg_type_str(reg.type)} expected={names}\n")
    if reg.type & BASE_TYPE_MASK != PTR_TO_BTF_ID:
        return
    if compatible is _MEM:
        if not arg_type & MEM_RDONLY:
            text = f"{func_id_name(func_id)}() may write into memory pointed by R{regno} "
            raise env.fail(Errno.EACCES, f"{text}type={reg_type_str(reg.type)}\n")
        return
    if reg.type & MEM_ALLOC and reg.type & PTR_MAYBE_NULL:
        # objects of programs are to be compared with NULL first
        raise env.bug("invalid PTR_TO_BTF_ID register for type match")
    check_btf_arg(env, regno, arg_type, func_id, arg_btf)
