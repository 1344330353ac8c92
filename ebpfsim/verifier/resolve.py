"""The first look at each instruction: known opcodes, and LD_IMM64 that name maps (resolve_pseudo_ldimm64(), v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.alu import s32
from ebpfsim.maps.arena import ArenaMap
from ebpfsim.maps.map import Map
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.uapi.flags import (
    BPF_PSEUDO_BTF_ID,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_IDX,
    BPF_PSEUDO_MAP_IDX_VALUE,
    BPF_PSEUDO_MAP_VALUE,
)
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.ksym import check_pseudo_btf_id
from ebpfsim.verifier.opcodes import BPF_LDX, BPF_MEM, BPF_MEMSX, LD_IMM64, opcode_known

__all__ = ["resolve_pseudo_ldimm64"]

MAX_USED_MAPS = 64
BPF_MAX_VAR_OFF = 1 << 29
# is_tracing_prog_type()
TRACING_TYPES = frozenset(
    {
        ProgType.KPROBE,
        ProgType.TRACEPOINT,
        ProgType.PERF_EVENT,
        ProgType.RAW_TRACEPOINT,
        ProgType.RAW_TRACEPOINT_WRITABLE,
    }
)
# maps that programs may use which sleep
_SLEEPABLE_MAPS = frozenset(
    {
        MapType.HASH,
        MapType.LRU_HASH,
        MapType.ARRAY,
        MapType.PERCPU_HASH,
        MapType.PERCPU_ARRAY,
        MapType.LRU_PERCPU_HASH,
        MapType.ARRAY_OF_MAPS,
        MapType.HASH_OF_MAPS,
        MapType.RINGBUF,
        MapType.USER_RINGBUF,
        MapType.INODE_STORAGE,
        MapType.SK_STORAGE,
        MapType.TASK_STORAGE,
        MapType.CGRP_STORAGE,
        MapType.QUEUE,
        MapType.STACK,
        MapType.ARENA,
    }
)


def resolve_pseudo_ldimm64(env: Env) -> None:
    """Find the maps that the program uses; refuse unknown opcodes (``resolve_pseudo_ldimm64``)."""
    insns = env.insns
    i = 0
    while i < len(insns):
        insn = insns[i]
        if insn.code & 7 == BPF_LDX and (insn.code & 0xE0 not in (BPF_MEM, BPF_MEMSX) or insn.imm):
            raise env.fail(Errno.EINVAL, "BPF_LDX uses reserved fields\n")
        if insn.code == LD_IMM64:
            second = insns[i + 1] if i + 1 < len(insns) else None
            if second is None or second.code or second.dst or second.src or second.off:
                raise env.fail(Errno.EINVAL, "invalid bpf_ld_imm64 insn\n")
            if insn.src == BPF_PSEUDO_BTF_ID:
                check_pseudo_btf_id(env, i)
            elif insn.src not in (0, BPF_PSEUDO_FUNC):
                _resolve_map(env, i)
            i += 2
            continue
        if not opcode_known(insn.code):
            raise env.fail(Errno.EINVAL, f"unknown opcode {insn.code:02x}\n")
        i += 1


def _resolve_map(env: Env, i: int) -> None:
    insn, off = env.insns[i], env.insns[i + 1].imm & 0xFFFF_FFFF
    is_value = insn.src in (BPF_PSEUDO_MAP_VALUE, BPF_PSEUDO_MAP_IDX_VALUE)
    if not is_value and (insn.src not in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_IDX) or off):
        raise env.fail(Errno.EINVAL, "unrecognized bpf_ld_imm64 insn\n")
    fd = insn.imm
    if insn.src in (BPF_PSEUDO_MAP_IDX, BPF_PSEUDO_MAP_IDX_VALUE):
        if not env.attr.fd_array:
            raise env.fail(Errno.EPROTO, "fd_idx without fd_array is invalid\n")
        if not 0 <= fd < len(env.attr.fd_array):
            raise env.fail(Errno.EFAULT, "")
        fd = env.attr.fd_array[fd]
    env.map_index[i] = add_used_map(env, fd)
    map_ = env.used_maps[env.map_index[i]]
    if is_value:
        if off >= BPF_MAX_VAR_OFF:
            raise env.fail(Errno.EINVAL, f"direct value offset of {off} is not allowed\n")
        if not map_.direct_value:
            raise env.fail(Errno.EINVAL, "no direct value access support for this map type\n")
        address = map_.direct_value_addr(off)
        if address < 0:
            text = f"invalid access to map value pointer, value_size={map_.attr.value_size} off={off}\n"
            raise env.fail(Errno(-address), text)
        env.map_off[i] = off
    else:
        address = map_.address
    # from here on the instruction holds the address; its source register still says what it is
    insns = env.insns
    insns[i] = insn._replace(imm=s32(address))
    insns[i + 1] = insns[i + 1]._replace(imm=s32(address >> 32))


def add_used_map(env: Env, fd: int) -> int:
    """Return the place of a map in the list of used maps (``add_used_map``)."""
    try:
        map_ = env.kernel.map_by_fd(fd)
        errno = Errno.EBADF
    except KernelError as error:
        map_, errno = None, Errno(error.errno)
    if map_ is None:
        raise env.fail(errno, f"fd {fd} is not pointing to valid bpf_map\n")
    for number, used in enumerate(env.used_maps):
        if used is map_:
            return number
    if len(env.used_maps) >= MAX_USED_MAPS:
        text = f"The total number of maps per program has reached the limit of {MAX_USED_MAPS}\n"
        raise env.fail(Errno.E2BIG, text)
    check_map_prog_compatibility(env, map_)
    env.used_maps.append(map_)
    return len(env.used_maps) - 1


def check_map_prog_compatibility(env: Env, map_: Map) -> None:
    """Refuse maps that programs of this type cannot use (``check_map_prog_compatibility``)."""
    tracing = env.prog_type in TRACING_TYPES
    if tracing and (map_.has_field("bpf_list_head") or map_.has_field("bpf_rb_root")):
        raise env.fail(Errno.EINVAL, "tracing progs cannot use bpf_{list_head,rb_root} yet\n")
    if map_.has_field("bpf_spin_lock") or map_.has_field("bpf_res_spin_lock"):
        if env.prog_type == ProgType.SOCKET_FILTER:
            raise env.fail(Errno.EINVAL, "socket filter progs cannot use bpf_spin_lock yet\n")
        if tracing:
            raise env.fail(Errno.EINVAL, "tracing progs cannot use bpf_spin_lock yet\n")
    if tracing and map_.has_field("bpf_timer"):
        raise env.fail(Errno.EINVAL, "tracing progs cannot use bpf_timer yet\n")
    if map_.attr.map_type == MapType.STRUCT_OPS:
        raise env.fail(Errno.EINVAL, "bpf_struct_ops map cannot be used in prog\n")
    if env.sleepable and map_.attr.map_type not in _SLEEPABLE_MAPS:
        text = "Sleepable programs can only use array, hash, ringbuf and local storage maps\n"
        raise env.fail(Errno.EINVAL, text)
    if isinstance(map_, ArenaMap):
        if env.arena is not None:
            raise env.fail(Errno.EBUSY, "Only one arena per program\n")
        env.arena = map_
        if not map_.user_vm_start:
            text = "arena's user address must be set via map_extra or mmap()\n"
            raise env.fail(Errno.EINVAL, text)
