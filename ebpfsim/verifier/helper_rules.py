"""Rules of single helpers: where they may be called, and their formats (kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.bprintf import FormatError, parse_format
from ebpfsim.helpers.protos import func_id_name
from ebpfsim.isa.insn import Insn
from ebpfsim.maps.map import Map
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.args import CallMeta
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.lsm import is_sleepable_hook

__all__ = ["check_allowed", "check_bpf_snprintf_call", "check_get_func_ip"]

BPF_FUNC_d_path = 147
BPF_FUNC_get_func_ip = 173
_STORAGE = (107, 108)  # sk_storage_get, sk_storage_delete
_IMA = (161, 193)  # ima_inode_hash, ima_file_hash
_TRAMPOLINES = (AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT, AttachType.MODIFY_RETURN)
# btf_allowlist_d_path: functions in which no lock is held that the helper takes
_D_PATH = frozenset(
    (
        "security_file_permission", "security_inode_getattr", "security_file_open", "security_path_truncate",
        "vfs_truncate", "vfs_fallocate", "dentry_open", "vfs_getattr", "filp_close",
    )
)  # fmt: skip


def _is_allowed(env: Env, func_id: int) -> bool:
    name = env.target.name if env.target is not None else ""
    if env.prog_type == ProgType.LSM:
        return is_sleepable_hook(name)
    if func_id == BPF_FUNC_d_path:
        return env.expected_attach(AttachType.TRACE_ITER) or name in _D_PATH
    # bpf_sk_storage_tracing_allowed
    if env.expected_attach(AttachType.TRACE_ITER, AttachType.TRACE_RAW_TP):
        return True
    return env.expected_attach(*_TRAMPOLINES[:2]) and not name.startswith("bpf_sk_storage")


def check_allowed(env: Env, func_id: int) -> None:
    """Refuse helpers that must not be called from what the program is attached to (``allowed`` of the prototype)."""
    is_restricted = func_id == BPF_FUNC_d_path or (
        func_id in _STORAGE and env.prog_type in (ProgType.TRACING, ProgType.SYSCALL)
    )
    is_restricted = is_restricted or (func_id in _IMA and env.prog_type == ProgType.LSM)
    if is_restricted and not _is_allowed(env, func_id):
        raise env.fail(Errno.EINVAL, "helper call is not allowed in probe\n")


def check_get_func_ip(env: Env) -> None:
    """Refuse bpf_get_func_ip() where no function is entered (``check_get_func_ip``)."""
    func = f"func {func_id_name(BPF_FUNC_get_func_ip)}#{BPF_FUNC_get_func_ip}"
    if env.prog_type == ProgType.TRACING:
        if not env.expected_attach(*_TRAMPOLINES):
            text = f"{func} supported only for fentry/fexit/fmod_ret programs\n"
            raise env.fail(Errno.ENOTSUPP, text)
    elif env.prog_type != ProgType.KPROBE:
        text = f"{func} not supported for program type {int(env.prog_type)}\n"
        raise env.fail(Errno.ENOTSUPP, text)


def check_bpf_snprintf_call(env: Env, insn: Insn, meta: CallMeta) -> None:
    """Refuse formats that bpf_snprintf() would refuse (``check_bpf_snprintf_call``)."""
    regs = env.cur_state.frames[-1].regs
    fmt, size = regs[3], regs[5].b.value
    if size % 8:
        raise env.fail(Errno.EINVAL, "")
    map_ = fmt.raw
    assert isinstance(map_, Map)
    off = fmt.off + fmt.b.value
    text = map_.mem.read(map_.direct_value_addr(off), map_.attr.value_size - off)
    try:
        parse_format(text[: text.index(0)], size // 8)
    except FormatError as error:
        raise env.fail(Errno(error.errno), "Invalid format string\n") from None
