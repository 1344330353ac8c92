"""Security hooks that programs may be attached to (kernel/bpf/bpf_lsm.c, v6.18).

The sets of hooks were read off Linux 6.12 by loading a program for each; of younger hooks only prototypes are known.
"""

from ebpfsim.btf.types import FuncProto
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.verifier.env import Env

__all__ = ["check_sleepable_hook", "is_sleepable_hook", "lsm_return_range", "lsm_verify_prog", "passes_trusted"]

PREFIX = "bpf_lsm_"
MAX_ERRNO = 4095

# functions of that prefix that are no hooks
_NO_HOOKS = frozenset(
    (
        "get_retval_range", "is_trusted", "is_sleepable_hook", "func_proto", "verify_prog", "find_cgroup_shim", "init",
        "has_d_inode_locked", "hook_returns_errno",
    )
)  # fmt: skip
# bpf_lsm_disabled_hooks
_DISABLED = frozenset(
    (
        "audit_rule_match", "key_getsecurity", "xfrm_decode_session", "ismaclabel", "setprocattr", "getprocattr",
        "getselfattr", "inode_copy_up_xattr", "inode_listsecurity", "inode_getsecurity", "vm_enough_memory",
        "inode_need_killpriv",
    )
)  # fmt: skip
# sleepable_lsm_hooks
_SLEEPABLE = frozenset(
    (
        "bpf", "bpf_map", "bpf_map_create", "bpf_map_free", "bpf_prog", "bpf_prog_load", "bpf_token_capable",
        "bpf_token_cmd", "bpf_token_create", "bpf_token_free", "bprm_check_security", "bprm_committed_creds",
        "bprm_committing_creds", "bprm_creds_for_exec", "bprm_creds_from_file", "capget", "capset", "cred_prepare",
        "current_getlsmprop_subj", "file_ioctl", "file_lock", "file_open", "file_post_open", "file_receive",
        "inode_create", "inode_free_security", "inode_getattr", "inode_getxattr", "inode_mknod", "inode_need_killpriv",
        "inode_post_setxattr", "inode_readlink", "inode_rename", "inode_rmdir", "inode_setattr", "inode_setxattr",
        "inode_symlink", "inode_unlink", "kernel_module_request", "kernel_read_file", "kernfs_init_security",
        "mmap_file", "netlink_send", "path_chmod", "path_chown", "path_link", "path_mkdir", "path_notify",
        "path_rename", "path_rmdir", "path_symlink", "path_truncate", "path_unlink", "release_secctx",
        "sb_alloc_security", "sb_eat_lsm_opts", "sb_kern_mount", "sb_mount", "sb_remount", "sb_set_mnt_opts",
        "sb_show_options", "sb_statfs", "sb_umount", "settime", "socket_accept", "socket_bind", "socket_connect",
        "socket_create", "socket_getpeername", "socket_getpeersec_dgram", "socket_getsockname", "socket_getsockopt",
        "socket_listen", "socket_post_create", "socket_recvmsg", "socket_sendmsg", "socket_shutdown",
        "socket_socketpair", "syslog", "task_alloc", "task_getlsmprop_obj", "task_prctl", "task_setscheduler",
        "userns_create",
    )
)  # fmt: skip
# hooks that Linux 6.12 did not have: whether they may sleep is not known
_YOUNG = frozenset(
    (
        "cred_getlsmprop", "inode_file_getattr", "inode_file_setattr", "inode_getlsmprop", "ipc_getlsmprop",
        "lsmprop_to_secctx", "uring_allowed",
    )
)  # fmt: skip
# untrusted_lsm_hooks: their arguments are being made, or torn down
_UNTRUSTED = frozenset(
    (
        "bpf_prog_free", "bpf_map_free", "sk_free_security", "sk_alloc_security", "task_free", "file_free_security",
        "file_alloc_security",
    )
)  # fmt: skip
# bool_lsm_hooks
_BOOL = frozenset(("audit_rule_known", "xfrm_state_pol_flow_match", "inode_xattr_skipcap"))


def is_sleepable_hook(name: str) -> bool:
    """Say whether programs may sleep there (``bpf_lsm_is_sleepable_hook``)."""
    hook = name.removeprefix(PREFIX)
    if hook in _YOUNG:
        raise NotModelled(f"sleepable program for {name}()", "kernel/bpf/bpf_lsm.c")
    return name.startswith(PREFIX) and hook in _SLEEPABLE


def check_sleepable_hook(env: Env, name: str) -> None:
    """Refuse sleepable programs for hooks that must not sleep."""
    if not is_sleepable_hook(name):
        raise env.fail(Errno.EINVAL, f"{name} is not sleepable\n")


def lsm_verify_prog(env: Env, name: str, id_: int) -> None:
    """Refuse what is no hook for programs (``bpf_lsm_verify_prog``)."""
    if not env.gpl_compatible:
        text = "LSM programs must have a GPL compatible license\n"
        raise env.fail(Errno.EINVAL, text)
    hook = name.removeprefix(PREFIX)
    if name.startswith(PREFIX) and hook in _DISABLED:
        raise env.fail(Errno.EINVAL, f"attach_btf_id {id_} points to disabled hook {name}\n")
    if not name.startswith(PREFIX) or hook in _NO_HOOKS:
        raise env.fail(Errno.EINVAL, f"attach_btf_id {id_} points to wrong type name {name}\n")


def passes_trusted(name: str) -> bool:
    """Say whether the arguments of a hook can be trusted (``bpf_lsm_is_trusted``)."""
    return name.removeprefix(PREFIX) not in _UNTRUSTED


def lsm_return_range(name: str, proto: FuncProto) -> tuple[int, int] | None:
    """Return what a hook may return; None when it returns nothing (``bpf_lsm_get_retval_range``)."""
    if not proto.type_id:
        return None
    return (0, 1) if name.removeprefix(PREFIX) in _BOOL else (-MAX_ERRNO, 0)
