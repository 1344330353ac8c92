"""Security hooks: ``security_*`` functions and the hooks of the BPF LSM behind them (security/security.c, v6.18).

Every ``bpf_lsm_NAME`` of the kernel's BTF is a function that returns the hook's default; programs on it are run by its
trampoline, the last one first, and the first result that is not 0 ends the hook. ``security_NAME`` asks the hook and
returns what it says. Functions are made when somebody first calls them or attaches a program.

Left out: other security modules (yama, lockdown, ima, evm) and most of what the capability module says; ``security_*``
functions that do more than to ask the hook of their name.
"""

from types import SimpleNamespace

from ebpfsim.btf.types import Kind
from ebpfsim.btf.view import place
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.memory import Memory
from hooks.trampoline import Function
from tracing.functions import KernelFunctions, kernel_function, kernel_model, kernel_proto
from tracing.task import Cred

__all__ = ["DEFAULTS", "add_security_hooks"]

HOOK, SECURITY = "bpf_lsm_", "security_"
RENAME_EXCHANGE = 2
S_PRIVATE, _I_FLAGS = 1 << 9, place("inode", "i_flags")[0]
ENOPARAM = 519  # include/linux/errno.h, which user space never sees
# functions whose hook has another name than their own or NAME_security (security/security.c)
OTHER_NAMES = {
    "security_create_user_ns": "bpf_lsm_userns_create",
    "security_free_mnt_opts": "bpf_lsm_sb_free_mnt_opts",
    "security_prepare_creds": "bpf_lsm_cred_prepare",
    "security_sock_rcv_skb": "bpf_lsm_socket_sock_rcv_skb",
    "security_transfer_creds": "bpf_lsm_cred_transfer",
}
# functions that ask their hook in other words: the hook, which of their arguments it gets (-1 is 0), and what it
# returns that they take for nothing
OTHER_WORDS: dict[str, tuple[str, tuple[int, ...], int]] = {
    "security_free_mnt_opts": ("bpf_lsm_sb_free_mnt_opts", (0,), 0),
    "security_inode_alloc": ("bpf_lsm_inode_alloc_security", (0,), 0),
    "security_inode_init_security": ("bpf_lsm_inode_init_security", (0, 1, 2, -1, -1), -Errno.EOPNOTSUPP),
    "security_mmap_file": ("bpf_lsm_mmap_file", (0, 1, 1, 2), 0),
    "security_sb_eat_lsm_opts": ("bpf_lsm_sb_eat_lsm_opts", (0, 1), 0),
}
# what hooks return that say nothing, where that is not 0 (include/linux/lsm_hook_defs.h)
DEFAULTS: dict[str, int] = {
    "dentry_init_security": -Errno.EOPNOTSUPP,
    "fs_context_parse_param": -ENOPARAM,
    "getprocattr": -Errno.EINVAL,
    "getselfattr": -Errno.EOPNOTSUPP,
    "inode_copy_up_xattr": -Errno.EOPNOTSUPP,
    "inode_getsecurity": -Errno.EOPNOTSUPP,
    "inode_init_security": -Errno.EOPNOTSUPP,
    "inode_setsecurity": -Errno.EOPNOTSUPP,
    "lsmprop_to_secctx": -Errno.EOPNOTSUPP,
    "secid_to_secctx": -Errno.EOPNOTSUPP,
    "setprocattr": -Errno.EINVAL,
    "setselfattr": -Errno.EOPNOTSUPP,
    "socket_getpeersec_dgram": -Errno.ENOPROTOOPT,
    "socket_getpeersec_stream": -Errno.ENOPROTOOPT,
    "task_prctl": -Errno.ENOSYS,
    "xfrm_state_pol_flow_match": 1,
}


def add_security_hooks(functions: KernelFunctions, mem: Memory) -> None:
    """Let a kernel's functions have the hooks, and the functions that ask them."""
    functions.make(HOOK, _hook)
    functions.make(SECURITY, lambda name: _security(functions, mem, name))
    functions.add(SimpleNamespace(cap_capable=_cap_capable(mem), security_inode_rename=_inode_rename(functions)))


def _hook(name: str) -> Function | None:
    if vmlinux().find(name, Kind.FUNC) is None:
        return None
    default = DEFAULTS.get(name.removeprefix(HOOK), 0)

    def hook(_cpu: Cpu, *_args: int) -> int:
        return default

    return hook


def _security(functions: KernelFunctions, mem: Memory, name: str) -> Function | None:
    if name in OTHER_WORDS:
        return _translated(functions, *OTHER_WORDS[name])
    hook, btf = OTHER_NAMES.get(name, HOOK + name.removeprefix(SECURITY)), vmlinux()
    if btf.find(hook, Kind.FUNC) is None:
        hook += "_security"
    if btf.find(name, Kind.FUNC) is None or btf.find(hook, Kind.FUNC) is None:
        return None
    if kernel_model(name) != kernel_model(hook) or kernel_proto(name).params != kernel_proto(hook).params:
        # it asks in other words
        return None

    own = CAPABILITY.get(name)
    if name == "security_d_instantiate":
        return _unless_private(functions, mem)

    def security(cpu: Cpu, *args: int) -> int:
        call: Function = getattr(functions, hook)
        return call(cpu, *args)

    def security_after(cpu: Cpu, *args: int) -> int:
        return getattr(functions, str(own))(cpu, *args) or security(cpu, *args)

    return security if own is None else security_after


def _unless_private(functions: KernelFunctions, mem: Memory) -> Function:
    def security_d_instantiate(cpu: Cpu, dentry: int, inode: int) -> int:
        if inode and mem.load(inode + _I_FLAGS, 4) & S_PRIVATE:
            return 0
        return functions.bpf_lsm_d_instantiate(cpu, dentry, inode)

    return security_d_instantiate


def _translated(functions: KernelFunctions, hook: str, words: tuple[int, ...], nothing: int) -> Function:
    def security(cpu: Cpu, *args: int) -> int:
        call: Function = getattr(functions, hook)
        ret = call(cpu, *(args[word] if word >= 0 else 0 for word in words))
        return 0 if ret == nothing else ret

    return security


def _inode_rename(functions: KernelFunctions) -> Function:
    @kernel_function
    def security_inode_rename(cpu: Cpu, old_dir: int, old: int, new_dir: int, new: int, flags: int) -> int:
        # names that change places are moved in both directions
        ret = 0
        if flags & RENAME_EXCHANGE:
            ret = functions.bpf_lsm_inode_rename(cpu, new_dir, new, old_dir, old)
        return ret or functions.bpf_lsm_inode_rename(cpu, old_dir, old, new_dir, new)

    return security_inode_rename


def _cap_capable(mem: Memory) -> Function:
    @kernel_function
    def cap_capable(_cpu: Cpu, cred: int, _targ_ns: int, cap: int, _opts: int) -> int:
        return 0 if Cred(mem, cred).cap_effective >> cap & 1 else -Errno.EPERM

    return cap_capable


# what the capability module says, which is asked before all others (security/commoncap.c)
CAPABILITY = {
    "security_capable": "cap_capable",
    "security_inode_need_killpriv": "cap_inode_need_killpriv",
    "security_task_fix_setuid": "cap_task_fix_setuid",
}
