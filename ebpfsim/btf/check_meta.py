"""What each type must be in itself, before the types it refers to are looked at: the ``check_meta`` of each kind.

kernel/bpf/btf.c, v6.18: ``btf_check_all_metas`` lists the types in its log as it goes.
"""

from collections.abc import Callable

from ebpfsim.btf.btf import TRAILER
from ebpfsim.btf.check_env import BTF_MAX_TYPE, BtfEnv, RawType
from ebpfsim.btf.types import Kind
from ebpfsim.errnos import Errno

__all__ = ["check_all_metas"]

TYPE_BYTES = 12
BTF_INFO_MASK = 0x9F00_FFFF
BTF_INT_MASK = 0x0FFF_FFFF
BITS_PER_U128 = 128
FLOAT_BYTES = (2, 4, 8, 12, 16)
ENUM_BYTES = (1, 2, 4, 8)
BTF_FUNC_GLOBAL = 1
LINKAGES = (0, 1)  # BTF_VAR_STATIC, BTF_VAR_GLOBAL_ALLOCATED

KFLAG = "Invalid btf_info kind_flag"
VLEN = "vlen != 0"
NAME = "Invalid name"


def check_all_metas(env: BtfEnv, nr_bytes: int) -> None:
    """Check the types one by one and keep them in the environment; BtfRefused at the first that is wrong."""
    words, at, left = env.words, 0, nr_bytes
    while left > 0:
        size = _check(env, words, at, left)
        if len(env.types) > BTF_MAX_TYPE:
            raise env.refuse("Exceeded max num of types", Errno.E2BIG)
        at += size >> 2
        left -= size
        env.log_type_id += 1


def _check(env: BtfEnv, words: memoryview, at: int, left: int) -> int:
    # btf_check_meta(): returns how many bytes the type takes
    if left < TYPE_BYTES:
        raise env.refuse(f"[{env.log_type_id}] meta_left:{left} meta_needed:{TYPE_BYTES}")
    name_off, info, ref = words[at : at + 3]
    if info & ~BTF_INFO_MASK:
        raise env.refuse(f"[{env.log_type_id}] Invalid btf_info:{info:x}")
    kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
    if not 0 < kind <= Kind.ENUM64:
        raise env.refuse(f"[{env.log_type_id}] Invalid kind:{kind}")
    if not env.is_name_offset(name_off):
        raise env.refuse(f"[{env.log_type_id}] Invalid name_offset:{name_off}")
    type_ = RawType(name_off, kind, vlen, info >> 31, ref, at + 3)
    fixed, each = TRAILER[kind]
    needed = fixed + each * vlen
    if left - TYPE_BYTES < needed:
        raise env.refuse_basic(type_, f"meta_left:{left - TYPE_BYTES} meta_needed:{needed}")
    CHECKS[kind](env, type_)
    env.types.append(type_)
    return TYPE_BYTES + needed


def _no_vlen_no_kflag(env: BtfEnv, type_: RawType) -> None:
    if type_.vlen:
        raise env.refuse_type(type_, VLEN)
    if type_.kflag:
        raise env.refuse_type(type_, KFLAG)


def _named(env: BtfEnv, type_: RawType) -> None:
    if not type_.name_off or not env.is_identifier(type_.name_off):
        raise env.refuse_type(type_, NAME)


def _int(env: BtfEnv, type_: RawType) -> None:
    _no_vlen_no_kflag(env, type_)
    data = env.words[type_.at]
    if data & ~BTF_INT_MASK:
        raise env.refuse_basic(type_, f"Invalid int_data:{data:x}")
    bits = (data & 0xFF) + (data >> 16 & 0xFF)
    if bits > BITS_PER_U128:
        raise env.refuse_type(type_, f"nr_bits exceeds {BITS_PER_U128}")
    if bits + 7 >> 3 > type_.ref:
        raise env.refuse_type(type_, "nr_bits exceeds type_size")
    if data >> 24 & 0xF not in (0, 1, 2, 4):
        raise env.refuse_type(type_, "Unsupported encoding", Errno.ENOTSUPP)
    env.log_type(type_)


def _ref(env: BtfEnv, type_: RawType) -> None:
    # btf_ref_type_check_meta()
    if type_.vlen:
        raise env.refuse_type(type_, VLEN)
    if type_.kflag and type_.kind != Kind.TYPE_TAG:
        raise env.refuse_type(type_, KFLAG)
    if type_.ref > BTF_MAX_TYPE:
        raise env.refuse_type(type_, "Invalid type_id")
    match type_.kind:
        case Kind.TYPEDEF:
            _named(env, type_)
        case Kind.TYPE_TAG:
            if not env.name(type_.name_off):
                raise env.refuse_type(type_, NAME)
        case _:
            if type_.name_off:
                raise env.refuse_type(type_, NAME)
    env.log_type(type_)


def _fwd(env: BtfEnv, type_: RawType) -> None:
    if type_.vlen:
        raise env.refuse_type(type_, VLEN)
    if type_.ref:
        raise env.refuse_type(type_, "type != 0")
    _named(env, type_)
    env.log_type(type_)


def _array(env: BtfEnv, type_: RawType) -> None:
    if type_.name_off:
        raise env.refuse_type(type_, NAME)
    _no_vlen_no_kflag(env, type_)
    if type_.ref:
        raise env.refuse_type(type_, "size != 0")
    elem, index, _count = env.words[type_.at : type_.at + 3]
    if not 0 < elem <= BTF_MAX_TYPE:
        raise env.refuse_type(type_, "Invalid elem")
    if not 0 < index <= BTF_MAX_TYPE:
        raise env.refuse_type(type_, "Invalid index")
    env.log_type(type_)


def _struct(env: BtfEnv, type_: RawType) -> None:
    if type_.name_off and not env.is_identifier(type_.name_off):
        raise env.refuse_type(type_, NAME)
    env.log_type(type_)
    last = 0
    for member in env.members(type_):
        if not env.is_name_offset(member.name_off):
            raise env.refuse_member(type_, member, f"Invalid member name_offset:{member.name_off}")
        if member.name_off and not env.is_identifier(member.name_off):
            raise env.refuse_member(type_, member, NAME)
        if not 0 < member.type <= BTF_MAX_TYPE:
            raise env.refuse_member(type_, member, "Invalid type_id")
        offset = member.bit_offset(type_.kflag)
        if last > offset or (type_.kind == Kind.UNION and offset):
            raise env.refuse_member(type_, member, "Invalid member bits_offset")
        # not `>=`: the last one may have no size
        if offset + 7 >> 3 > type_.ref:
            raise env.refuse_member(type_, member, "Member bits_offset exceeds its struct size")
        env.log_member(type_, member)
        last = offset


def _enum(env: BtfEnv, type_: RawType) -> None:
    if type_.ref not in ENUM_BYTES:
        raise env.refuse_type(type_, "Unexpected size")
    if type_.name_off and not env.is_identifier(type_.name_off):
        raise env.refuse_type(type_, NAME)
    env.log_type(type_)
    words, step = env.words, TRAILER[type_.kind][1] >> 2
    bits = 32 * (step - 1)
    for at in range(type_.at, type_.at + step * type_.vlen, step):
        if not env.is_name_offset(words[at]):
            raise env.refuse(f"\tInvalid name_offset:{words[at]}")
        if not words[at] or not env.is_identifier(words[at]):
            raise env.refuse_type(type_, NAME)
        value = words[at + 1] | (words[at + 2] << 32 if step > 2 else 0)
        if type_.kflag:
            value -= value >> bits - 1 << bits
        env.write(f"\t{env.shown(words[at])} val={value}\n")


def _func(env: BtfEnv, type_: RawType) -> None:
    _named(env, type_)
    if type_.vlen > BTF_FUNC_GLOBAL:
        raise env.refuse_type(type_, "Invalid func linkage")
    if type_.kflag:
        raise env.refuse_type(type_, KFLAG)
    env.log_type(type_)


def _func_proto(env: BtfEnv, type_: RawType) -> None:
    if type_.name_off:
        raise env.refuse_type(type_, NAME)
    if type_.kflag:
        raise env.refuse_type(type_, KFLAG)
    env.log_type(type_)


def _var(env: BtfEnv, type_: RawType) -> None:
    _no_vlen_no_kflag(env, type_)
    _named(env, type_)
    if not 0 < type_.ref <= BTF_MAX_TYPE:
        raise env.refuse_type(type_, "Invalid type_id")
    if env.words[type_.at] not in LINKAGES:
        raise env.refuse_type(type_, "Linkage not supported")
    env.log_type(type_)


def _datasec(env: BtfEnv, type_: RawType) -> None:
    if not type_.ref:
        raise env.refuse_type(type_, "size == 0")
    if type_.kflag:
        raise env.refuse_type(type_, KFLAG)
    if not type_.name_off or not env.is_section_name(type_.name_off):
        raise env.refuse_type(type_, NAME)
    env.log_type(type_)
    end = total = 0
    for info in env.secinfos(type_):
        if not 0 < info.type <= BTF_MAX_TYPE:
            raise env.refuse_secinfo(type_, info, "Invalid type_id")
        if not end <= info.offset < type_.ref:
            raise env.refuse_secinfo(type_, info, "Invalid offset")
        if not 0 < info.size <= type_.ref:
            raise env.refuse_secinfo(type_, info, "Invalid size")
        end = info.offset + info.size
        if end > type_.ref:
            raise env.refuse_secinfo(type_, info, "Invalid offset+size")
        env.log_secinfo(type_, info)
        total += info.size
    if type_.ref < total:
        raise env.refuse_type(type_, "Invalid btf_info size")


def _float(env: BtfEnv, type_: RawType) -> None:
    _no_vlen_no_kflag(env, type_)
    if type_.ref not in FLOAT_BYTES:
        raise env.refuse_type(type_, "Invalid type_size")
    env.log_type(type_)


def _decl_tag(env: BtfEnv, type_: RawType) -> None:
    if not env.name(type_.name_off):
        raise env.refuse_type(type_, "Invalid value")
    if type_.vlen:
        raise env.refuse_type(type_, VLEN)
    index = env.words[type_.at]
    if index >> 31 and index != 0xFFFF_FFFF:
        raise env.refuse_type(type_, "Invalid component_idx")
    env.log_type(type_)


CHECKS: dict[int, Callable[[BtfEnv, RawType], None]] = {
    Kind.INT: _int,
    Kind.ARRAY: _array,
    Kind.FWD: _fwd,
    Kind.FUNC: _func,
    Kind.FUNC_PROTO: _func_proto,
    Kind.VAR: _var,
    Kind.DATASEC: _datasec,
    Kind.FLOAT: _float,
    Kind.DECL_TAG: _decl_tag,
    **dict.fromkeys((Kind.PTR, Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG), _ref),
    **dict.fromkeys((Kind.STRUCT, Kind.UNION), _struct),
    **dict.fromkeys((Kind.ENUM, Kind.ENUM64), _enum),
}
