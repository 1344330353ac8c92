"""System calls about processes: who they are, sleeping, exec, exit and waiting (kernel/, fs/exec.c, v6.18).

Left out: signals, process groups and sessions, scripts and interpreters (a file is executed if the task may).
"""

from ebpfsim.btf.view import Field, KernelStruct
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, s64, u32
from ebpfsim.memory.user import UserFault, UserMemory
from tracing.fs import FsKernel, file_at, is_err, task_of
from tracing.functions import kernel_function
from tracing.namei import AT_FDCWD, LOOKUP_FOLLOW, Filename, OpenFlags
from tracing.permission import MAY_EXEC
from tracing.sched import TaskExit
from tracing.syscalls import syscall
from tracing.task import PF_FORKNOEXEC, Task

__all__: list[str] = []

NSEC_PER_SEC = 1_000_000_000
PR_SET_NAME, PR_GET_NAME = 15, 16  # include/uapi/linux/prctl.h
CAP_SETGID, CAP_SETUID = 6, 7
LSM_SETID_ID = 1  # include/linux/security.h
ARG_MAX_STRINGS = 1024
PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID = 0, 1, 2


class Binprm(KernelStruct):
    """``struct linux_binprm``: what execve() is about to do."""

    struct_name = "linux_binprm"
    file = Field()
    cred = Field()
    argc = Field()
    envc = Field()
    filename = Field()
    interp = Field()


@kernel_function
def __task_pid_nr_ns(k: FsKernel, _cpu: Cpu, task: int, type_: int, _ns: int) -> int:
    """Return the pid, tgid or process group of a task; every process leads its group."""
    found = k.sched.by_address[task]
    return found.pid if type_ == PIDTYPE_PID else found.tgid


@syscall(39)
def sys_getpid(k: FsKernel, cpu: Cpu) -> int:
    return _number(k, cpu, task_of(k, cpu), PIDTYPE_TGID)


@syscall(186)
def sys_gettid(k: FsKernel, cpu: Cpu) -> int:
    return _number(k, cpu, task_of(k, cpu), PIDTYPE_PID)


@syscall(110)
def sys_getppid(k: FsKernel, cpu: Cpu) -> int:
    return _number(k, cpu, task_of(k, cpu).leader.parent, PIDTYPE_TGID)


@syscall(121)
def sys_getpgid(k: FsKernel, cpu: Cpu, pid: int) -> int:
    ret: int = k.functions.do_getpgid(cpu, u32(pid))
    return ret


@kernel_function
def do_getpgid(k: FsKernel, cpu: Cpu, pid: int) -> int:
    """Return the process group of a process, 0 for the caller; ESRCH."""
    task = k.sched.tasks.get(s32(pid)) if s32(pid) else task_of(k, cpu)
    if task is None:
        return -Errno.ESRCH
    ret: int = k.functions.security_task_getpgid(cpu, task.address)
    return ret or _number(k, cpu, task, PIDTYPE_PGID)


@syscall(102)
def sys_getuid(k: FsKernel, cpu: Cpu) -> int:
    return task_of(k, cpu).cred.uid


@syscall(104)
def sys_getgid(k: FsKernel, cpu: Cpu) -> int:
    return task_of(k, cpu).cred.gid


@syscall(107)
def sys_geteuid(k: FsKernel, cpu: Cpu) -> int:
    return task_of(k, cpu).cred.euid


@syscall(108)
def sys_getegid(k: FsKernel, cpu: Cpu) -> int:
    return task_of(k, cpu).cred.egid


@syscall(105)
def sys_setuid(k: FsKernel, cpu: Cpu, uid: int) -> int:
    ret: int = k.functions.__sys_setuid(cpu, u32(uid))
    return ret


@kernel_function
def __sys_setuid(k: FsKernel, cpu: Cpu, uid: int) -> int:
    """Become another user: all ids with CAP_SETUID, else between the real and the saved one; EPERM."""
    cred = task_of(k, cpu).cred
    allowed = not k.functions.security_capable(cpu, cred.address, cred.user_ns, CAP_SETUID, 0)
    if not allowed and uid not in (cred.uid, cred.suid):
        return -Errno.EPERM
    ret: int = k.functions.security_task_fix_setuid(cpu, cred.address, cred.address, LSM_SETID_ID)
    if ret:
        return ret
    if allowed:
        cred.become(uid, cred.gid)
    else:
        cred.euid = cred.fsuid = uid
    return 0


@syscall(24)
def sys_sched_yield(k: FsKernel, cpu: Cpu) -> int:
    k.functions.do_sched_yield(cpu)
    return 0


@syscall(35)
def sys_nanosleep(k: FsKernel, cpu: Cpu, rqtp: int, rmtp: int) -> int:
    return _sleep(k, cpu, rqtp)


@syscall(230)
def sys_clock_nanosleep(k: FsKernel, cpu: Cpu, which_clock: int, flags: int, rqtp: int, rmtp: int) -> int:
    return _sleep(k, cpu, rqtp)


@kernel_function
def hrtimer_nanosleep(k: FsKernel, _cpu: Cpu, rqtp: int, _mode: int, _clockid: int) -> int:
    """Sleep for so many nanoseconds."""
    k.sched.wait(None, timeout_ns=rqtp)
    return 0


@syscall(157)
def sys_prctl(k: FsKernel, cpu: Cpu, option: int, arg2: int, arg3: int, arg4: int, arg5: int) -> int:
    functions, task = k.functions, task_of(k, cpu)
    ret: int = functions.security_task_prctl(cpu, s32(option), arg2, arg3, arg4, arg5)
    if ret != -Errno.ENOSYS:
        return ret
    user = task.user
    if user is None or option not in (PR_SET_NAME, PR_GET_NAME):
        return -Errno.EINVAL
    try:
        if option == PR_SET_NAME:
            _set_comm(k, cpu, task, user.read_string(arg2, 15), exec_=False)
        else:
            user.write(arg2, task.comm.encode().ljust(16, b"\0"))
    except UserFault:
        return -Errno.EFAULT
    return 0


@kernel_function
def __set_task_comm(k: FsKernel, cpu: Cpu, tsk: int, buf: int, _exec: int) -> None:
    """Give a task a name."""
    k.trace(cpu, "task_rename", tsk, buf)
    k.sched.by_address[tsk].comm = k.mem.read_string(buf, 16).decode(errors="replace")


@syscall(60)
def sys_exit(k: FsKernel, cpu: Cpu, error_code: int) -> int:
    k.functions.do_exit(cpu, (error_code & 0xFF) << 8)
    return 0


@syscall(231)
def sys_exit_group(k: FsKernel, cpu: Cpu, error_code: int) -> int:
    k.functions.do_group_exit(cpu, (error_code & 0xFF) << 8)
    return 0


@kernel_function
def do_group_exit(k: FsKernel, cpu: Cpu, exit_code: int) -> None:
    """End all threads of the caller's process. Differs: only the calling thread ends."""
    k.functions.do_exit(cpu, exit_code)


@kernel_function
def do_exit(_k: FsKernel, _cpu: Cpu, code: int) -> None:
    """End the calling task; does not return."""
    raise TaskExit(code)


@syscall(61)
def sys_wait4(k: FsKernel, cpu: Cpu, upid: int, stat_addr: int, options: int, ru: int) -> int:
    task = task_of(k, cpu)
    child = k.sched.wait_child(task.leader)
    if child is None:
        return -Errno.ECHILD
    pid, code = child
    if stat_addr and task.user is not None:
        try:
            task.user.write(stat_addr, u32(code).to_bytes(4, "little"))
        except UserFault:
            return -Errno.EFAULT
    return pid


@syscall(59)
def sys_execve(k: FsKernel, cpu: Cpu, filename: int, argv: int, envp: int) -> int:
    functions = k.functions
    name = functions.getname_flags(cpu, filename, 0)
    if is_err(name):
        return is_err(name)
    user = task_of(k, cpu).user
    assert user is not None
    try:
        args, env = _strings(user, argv), _strings(user, envp)
    except UserFault:
        functions.putname(cpu, name)
        return -Errno.EFAULT
    bprm = Binprm.alloc(k.mem)
    bprm.argc, bprm.envc = len(args), len(env)
    bprm.filename = bprm.interp = Filename(k.mem, name).name
    file = functions.do_open_execat(cpu, AT_FDCWD, name, 0)
    ret = is_err(file)
    if not ret:
        bprm.file = file
        bprm.cred = task_of(k, cpu).cred.address
        ret = functions.bprm_execve(cpu, bprm.address)
        if not ret:
            _begin_new_exec(k, cpu, bprm, args, env)
        file_at(k, file).put()
    bprm.free()
    functions.putname(cpu, name)
    return ret


@kernel_function
def do_open_execat(k: FsKernel, cpu: Cpu, fd: int, name: int, _flags: int) -> int:
    """Open a file to execute it; EACCES for what is no file."""
    op = OpenFlags.alloc(k.mem)
    op.acc_mode, op.lookup_flags = MAY_EXEC, LOOKUP_FOLLOW
    file: int = k.functions.do_filp_open(cpu, fd, name, op.address)
    op.free()
    return file


@kernel_function
def bprm_execve(k: FsKernel, cpu: Cpu, bprm: int) -> int:
    """Ask the security modules whether the task may execute this."""
    functions = k.functions
    ret: int = functions.security_bprm_creds_for_exec(cpu, bprm)
    ret = ret or functions.security_bprm_check(cpu, bprm)
    return ret or functions.security_bprm_creds_from_file(cpu, bprm, Binprm(k.mem, bprm).file)


def _begin_new_exec(k: FsKernel, cpu: Cpu, bprm: Binprm, args: list[str], env: list[str]) -> None:
    # begin_new_exec(), load_elf_binary(), exec_binprm()
    functions, task = k.functions, task_of(k, cpu)
    path = file_at(k, bprm.file).dentry
    assert path is not None
    _set_comm(k, cpu, task, path.name.encode(), exec_=True)
    functions.security_bprm_committing_creds(cpu, bprm.address)
    functions.security_bprm_committed_creds(cpu, bprm.address)
    task.exec_mm(args, env, bprm.file)
    cpu.user = task.user
    task.struct.flags &= ~PF_FORKNOEXEC
    k.trace(cpu, "sched_process_exec", task.address, task.pid, bprm.address)


def _set_comm(k: FsKernel, cpu: Cpu, task: Task, name: bytes, *, exec_: bool) -> None:
    room = k.mem.alloc(256)
    k.mem.write(room, name[:255] + b"\0")
    k.functions.__set_task_comm(cpu, task.address, room, int(exec_))
    k.mem.free(room)


def _number(k: FsKernel, cpu: Cpu, task: Task, type_: int) -> int:
    ret: int = k.functions.__task_pid_nr_ns(cpu, task.address, type_, 0)
    return ret


def _sleep(k: FsKernel, cpu: Cpu, rqtp: int) -> int:
    user = task_of(k, cpu).user
    try:
        data = user.read(rqtp, 16) if user is not None else b""
    except UserFault:
        return -Errno.EFAULT
    seconds, nanoseconds = (s64(int.from_bytes(data[at : at + 8], "little")) for at in (0, 8))
    if seconds < 0 or not 0 <= nanoseconds < NSEC_PER_SEC:
        return -Errno.EINVAL
    ret: int = k.functions.hrtimer_nanosleep(cpu, seconds * NSEC_PER_SEC + nanoseconds, 1, 1)
    return ret


def _strings(user: UserMemory, address: int) -> list[str]:
    found: list[str] = []
    while address and len(found) < ARG_MAX_STRINGS:
        pointer = int.from_bytes(user.read(address, 8), "little")
        if not pointer:
            break
        found.append(user.read_string(pointer, 4096).decode(errors="surrogateescape"))
        address += 8
    return found
