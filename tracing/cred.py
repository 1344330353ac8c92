"""Who a task is, and becoming somebody else: setuid(2) and its kin (kernel/sys.c, kernel/cred.c, v6.18).

Left out: supplementary groups, set*fs*id(2), user name spaces.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.memory.user import UserFault
from tracing.functions import kernel_function
from tracing.syscalls import syscall
from tracing.task import CAP_ALL, Cred

__all__: list[str] = []

CAP_SETGID, CAP_SETUID = 6, 7
LSM_SETID_ID, LSM_SETID_RE, LSM_SETID_RES = 1, 2, 4
KEEP = 0xFFFF_FFFF


@syscall(102)
def sys_getuid(k: Any, cpu: Cpu) -> int:
    return int(k.sched.current(cpu).cred.uid)


@syscall(104)
def sys_getgid(k: Any, cpu: Cpu) -> int:
    return int(k.sched.current(cpu).cred.gid)


@syscall(107)
def sys_geteuid(k: Any, cpu: Cpu) -> int:
    return int(k.sched.current(cpu).cred.euid)


@syscall(108)
def sys_getegid(k: Any, cpu: Cpu) -> int:
    return int(k.sched.current(cpu).cred.egid)


def _three(k: Any, cpu: Cpu, addresses: tuple[int, int, int], names: tuple[str, str, str]) -> int:
    task = k.sched.current(cpu)
    try:
        for address, name in zip(addresses, names, strict=True):
            task.user.write(address, getattr(task.cred, name).to_bytes(4, "little"))
    except UserFault:
        return -Errno.EFAULT
    return 0


@syscall(118)
def sys_getresuid(k: Any, cpu: Cpu, ruidp: int, euidp: int, suidp: int) -> int:
    return _three(k, cpu, (ruidp, euidp, suidp), ("uid", "euid", "suid"))


@syscall(120)
def sys_getresgid(k: Any, cpu: Cpu, rgidp: int, egidp: int, sgidp: int) -> int:
    return _three(k, cpu, (rgidp, egidp, sgidp), ("gid", "egid", "sgid"))


@syscall(105)
def sys_setuid(k: Any, cpu: Cpu, uid: int) -> int:
    return int(k.functions.__sys_setuid(cpu, u32(uid)))


@syscall(106)
def sys_setgid(k: Any, cpu: Cpu, gid: int) -> int:
    return int(k.functions.__sys_setgid(cpu, u32(gid)))


@syscall(113)
def sys_setreuid(k: Any, cpu: Cpu, ruid: int, euid: int) -> int:
    return int(k.functions.__sys_setreuid(cpu, u32(ruid), u32(euid)))


@syscall(114)
def sys_setregid(k: Any, cpu: Cpu, rgid: int, egid: int) -> int:
    return int(k.functions.__sys_setregid(cpu, u32(rgid), u32(egid)))


@syscall(117)
def sys_setresuid(k: Any, cpu: Cpu, ruid: int, euid: int, suid: int) -> int:
    return int(k.functions.__sys_setresuid(cpu, u32(ruid), u32(euid), u32(suid)))


@syscall(119)
def sys_setresgid(k: Any, cpu: Cpu, rgid: int, egid: int, sgid: int) -> int:
    return int(k.functions.__sys_setresgid(cpu, u32(rgid), u32(egid), u32(sgid)))


def _become(k: Any, cpu: Cpu, kind: str, asked: tuple[int, int, int], how: int, *, all_with_cap: bool = False) -> int:
    # real, effective and saved id; KEEP leaves one as it is
    functions, cred = k.functions, k.sched.current(cpu).cred
    names = [f"{prefix}{kind}" for prefix in ("", "e", "s")]
    old = [getattr(cred, name) for name in names]
    # what becomes of three ids is clear before anything is made for it
    early = how == LSM_SETID_RES
    if not early:
        functions.prepare_creds(cpu)
    # what an id may be without the capability; setuid() asks for that first, as it does more with it
    allowed = set(old) if how == LSM_SETID_RES else {old[0], old[1], old[2] if how == LSM_SETID_ID else old[1]}
    if how == LSM_SETID_ID:
        allowed = {old[0], old[2]}
    wanted = [old[at] if value == KEEP else value for at, value in enumerate(asked)]
    capable = False
    if all_with_cap or any(value != KEEP and value not in allowed for value in asked):
        capable = bool(functions.ns_capable_setid(cpu, cred.user_ns, CAP_SETUID if kind == "uid" else CAP_SETGID))
        if not capable and any(value != KEEP and value not in allowed for value in asked):
            return -Errno.EPERM
    if early:
        functions.prepare_creds(cpu)
    if kind == "uid" and wanted[0] != old[0]:
        functions.free_uid(cpu, 0)
    if all_with_cap and not capable:
        wanted = [old[0], asked[1], old[2]]
    hook = functions.security_task_fix_setuid if kind == "uid" else functions.security_task_fix_setgid
    ret: int = hook(cpu, cred.address, cred.address, how)
    if ret:
        return ret
    for name, value in zip(names, wanted, strict=True):
        setattr(cred, name, value)
    setattr(cred, f"fs{kind}", wanted[1])
    if kind == "uid":
        _fix_capabilities(cred, old, wanted)
        functions.set_cred_ucounts(cpu, cred.address)
        if wanted[0] != old[0]:
            functions.alloc_ucounts(cpu, cred.user_ns, wanted[0])
        functions.flag_nproc_exceeded(cpu, cred.address)
        if wanted[0] != old[0]:
            functions.is_rlimit_overlimit(cpu, 0, 0, 0)
    functions.commit_creds(cpu, cred.address)
    if wanted[1] != old[1]:
        functions.set_dumpable(cpu, k.sched.current(cpu).struct.mm_ptr, 0)
    if kind == "uid" and wanted[0] != old[0]:
        functions.inc_rlimit_ucounts(cpu, 0, 0, 1)
        functions.dec_rlimit_ucounts(cpu, 0, 0, 1)
    return 0


def _fix_capabilities(cred: Cred, old: list[int], new: list[int]) -> None:
    # cap_emulate_setxuid()
    if 0 in old and 0 not in new:
        cred.cap_permitted = cred.cap_effective = 0
    if old[1] == 0 and new[1]:
        cred.cap_effective = 0
    if old[1] and new[1] == 0:
        cred.cap_effective = cred.cap_permitted & CAP_ALL


@kernel_function
def __sys_setuid(k: Any, cpu: Cpu, uid: int) -> int:
    """Become another user: all ids with CAP_SETUID, else the effective one, between the real and the saved; EPERM."""
    return _become(k, cpu, "uid", (uid, uid, uid), LSM_SETID_ID, all_with_cap=True)


@kernel_function
def __sys_setgid(k: Any, cpu: Cpu, gid: int) -> int:
    """Be in another group, likewise."""
    return _become(k, cpu, "gid", (gid, gid, gid), LSM_SETID_ID, all_with_cap=True)


def _saved(cred: Cred, kind: str, real: int, effective: int) -> int:
    # the saved id becomes the effective one when the real one was set, or the effective one to something else
    changes = real != KEEP or (effective != KEEP and effective != getattr(cred, kind))
    if not changes:
        return KEEP
    return effective if effective != KEEP else int(getattr(cred, f"e{kind}"))


@kernel_function
def __sys_setreuid(k: Any, cpu: Cpu, ruid: int, euid: int) -> int:
    """Change real and effective user; EPERM."""
    cred = k.sched.current(cpu).cred
    refused = euid != KEEP and euid not in (cred.uid, cred.euid, cred.suid)
    if refused and not k.functions.ns_capable_setid(cpu, cred.user_ns, CAP_SETUID):
        return -Errno.EPERM
    return _become(k, cpu, "uid", (ruid, euid, _saved(cred, "uid", ruid, euid)), LSM_SETID_RES)


@kernel_function
def __sys_setregid(k: Any, cpu: Cpu, rgid: int, egid: int) -> int:
    """Change real and effective group; EPERM."""
    cred = k.sched.current(cpu).cred
    return _become(k, cpu, "gid", (rgid, egid, _saved(cred, "gid", rgid, egid)), LSM_SETID_RES)


@kernel_function
def __sys_setresuid(k: Any, cpu: Cpu, ruid: int, euid: int, suid: int) -> int:
    """Change real, effective and saved user; EPERM."""
    return _become(k, cpu, "uid", (ruid, euid, suid), LSM_SETID_RES)


@kernel_function
def __sys_setresgid(k: Any, cpu: Cpu, rgid: int, egid: int, sgid: int) -> int:
    """Change real, effective and saved group; EPERM."""
    return _become(k, cpu, "gid", (rgid, egid, sgid), LSM_SETID_RES)
