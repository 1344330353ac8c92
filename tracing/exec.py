"""New programs: execve(2), execveat(2) (fs/exec.c, fs/binfmt_elf.c, v6.18).

A file that the task may execute is executed, whatever is in it, unless it begins with neither the mark of ELF nor that
of a script: ENOEXEC. The program itself is what the task goes on with.
"""

from typing import Any, cast

from ebpfsim.btf.view import Field, KernelStruct, place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory.user import UserFault, UserMemory
from tracing.fs import file_at, is_err
from tracing.functions import kernel_function
from tracing.mm import new_layout
from tracing.namei import AT_FDCWD, LOOKUP_EMPTY, LOOKUP_FOLLOW, OpenFlags, getname_kernel
from tracing.permission import MAY_EXEC, MAY_READ
from tracing.signal_state import SIG_IGN
from tracing.syscalls import syscall
from tracing.task import PF_FORKNOEXEC, Task

__all__ = ["Binprm"]

AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
MAX_ARG_STRINGS, MAX_ARG_STRLEN = 1024, 131072
BINPRM_BUF_SIZE = 256
FMODE_EXEC = 0x20
CAP_ALL = (1 << 41) - 1
S_ISUID, S_ISGID = 0o4000, 0o2000
_FILENAME = place("filename", "iname")[0]
_BUF = place("linux_binprm", "buf")[0]


class Binprm(KernelStruct):
    """``struct linux_binprm``: what execve() is about to do."""

    struct_name = "linux_binprm"
    file = Field()
    cred = Field()
    argc = Field()
    envc = Field()
    filename = Field()
    interp = Field()
    mm = Field()


@syscall(59)
def sys_execve(k: Any, cpu: Cpu, filename: int, argv: int, envp: int) -> int:
    return _execveat(k, cpu, AT_FDCWD, filename, argv, envp, 0)


@syscall(322)
def sys_execveat(k: Any, cpu: Cpu, fd: int, filename: int, argv: int, envp: int, flags: int) -> int:
    return _execveat(k, cpu, s32(fd), filename, argv, envp, u32(flags))


def _execveat(k: Any, cpu: Cpu, fd: int, filename: int, argv: int, envp: int, flags: int) -> int:
    functions, task = k.functions, k.sched.current(cpu)
    name = functions.getname_flags(cpu, filename, LOOKUP_EMPTY if flags & AT_EMPTY_PATH else 0)
    if is_err(name):
        return is_err(name)
    address = functions.alloc_bprm(cpu, fd, name, flags)
    ret = is_err(address)
    if not ret:
        bprm = Binprm(k.mem, address)
        try:
            args, env = _strings(task.user, argv), _strings(task.user, envp)
        except UserFault:
            ret = -Errno.EFAULT
        except ValueError:
            ret = -Errno.E2BIG
        if not ret:
            ret = _exec(k, cpu, bprm, args, env)
        functions.free_bprm(cpu, address)
    functions.putname(cpu, name)
    return ret


def _exec(k: Any, cpu: Cpu, bprm: Binprm, args: list[str], env: list[str]) -> int:
    # do_execveat_common()
    functions = k.functions
    bprm.argc, bprm.envc = max(1, len(args)), len(env)
    functions.bprm_stack_limits(cpu, bprm.address)
    functions.copy_string_kernel(cpu, bprm.filename, bprm.address)
    functions.get_arg_page(cpu, bprm.address, 0, 1)
    k.walks[bprm.address] = (args or [""], env)
    try:
        ret: int = functions.bprm_execve(cpu, bprm.address)
    finally:
        del k.walks[bprm.address]
    return ret


@kernel_function
def alloc_bprm(k: Any, cpu: Cpu, fd: int, filename: int, flags: int) -> int:
    """Open the file, and prepare what a new program needs; an errno as a pointer."""
    functions = k.functions
    file = functions.do_open_execat(cpu, fd, filename, flags)
    if is_err(file):
        return cast(int, file)
    bprm = Binprm.alloc(k.mem)
    bprm.file = file
    bprm.filename = bprm.interp = filename + _FILENAME
    functions.mm_alloc(cpu)
    functions.vm_area_alloc(cpu, 0)
    functions.insert_vm_struct(cpu, 0, 0)
    return bprm.address


@kernel_function
def free_bprm(k: Any, cpu: Cpu, bprm: int) -> None:
    """Let go of what was prepared."""
    found = Binprm(k.mem, bprm)
    if found.file:
        k.functions.fput(cpu, found.file)
    found.free()


@kernel_function
def do_open_execat(k: Any, cpu: Cpu, fd: int, name: int, flags: int) -> int:
    """Open a file to execute it; EACCES for what is no file."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        return -Errno.EINVAL
    op = OpenFlags.alloc(k.mem)
    op.open_flag, op.acc_mode = FMODE_EXEC | 0o100000, MAY_EXEC
    op.lookup_flags = 0 if flags & AT_SYMLINK_NOFOLLOW else LOOKUP_FOLLOW
    file: int = k.functions.do_filp_open(cpu, fd, name, op.address)
    op.free()
    if not is_err(file):
        inode = file_at(k, file).inode
        if inode is None or not inode.is_plain:
            k.functions.fput(cpu, file)
            return -Errno.EACCES
    return file


@kernel_function
def bprm_execve(k: Any, cpu: Cpu, bprm: int) -> int:
    """Ask whether the task may execute this, and let it: ENOEXEC, what the security modules say."""
    functions, found, task = k.functions, Binprm(k.mem, bprm), k.sched.current(cpu)
    functions.prepare_exec_creds(cpu)
    found.cred = task.cred.address
    functions.sched_mm_cid_before_execve(cpu, task.address)
    functions.sched_exec(cpu)
    ret: int = functions.security_bprm_creds_for_exec(cpu, bprm)
    ret = ret or _exec_binprm(k, cpu, found)
    functions.sched_mm_cid_after_execve(cpu, task.address)
    functions.task_numa_free(cpu, task.address, 0)
    return s32(ret & 0xFFFF_FFFF)


def _exec_binprm(k: Any, cpu: Cpu, bprm: Binprm) -> int:
    # exec_binprm(), search_binary_handler()
    functions, task = k.functions, k.sched.current(cpu)
    old_pid = functions.__task_pid_nr_ns(cpu, task.address, 0, 0)
    for _ in range(5):
        pos = k.mem.alloc(8)
        functions.kernel_read(cpu, bprm.file, bprm.address + _BUF, BINPRM_BUF_SIZE, pos)
        k.mem.free(pos)
        ret: int = functions.security_bprm_check(cpu, bprm.address)
        if ret:
            return ret
        functions.load_script(cpu, bprm.address)
        head = k.mem.read(bprm.address + _BUF, BINPRM_BUF_SIZE)
        if head.startswith(b"#!"):
            ret = _interpreter(k, cpu, bprm, head[2:].partition(b"\n")[0].split())
            if ret:
                return ret
            continue
        if not head.startswith(b"\x7fELF"):
            return -Errno.ENOEXEC
        ret = _load_elf_binary(k, cpu, bprm)
        if not ret:
            k.trace(cpu, "sched_process_exec", task.address, old_pid, bprm.address)
            functions.proc_exec_connector(cpu, task.address)
        return ret
    return -Errno.ELOOP


def _interpreter(k: Any, cpu: Cpu, bprm: Binprm, words: list[bytes]) -> int:
    # load_script(): the program is the one that the script names, with the script as its argument
    if not words:
        return -Errno.ENOEXEC
    functions = k.functions
    args, env = k.walks[bprm.address]
    script = k.mem.read_string(bprm.filename, 4096).decode(errors="surrogateescape")
    name = getname_kernel(k, cpu, words[0])
    file = functions.do_open_execat(cpu, AT_FDCWD, name, 0)
    functions.putname(cpu, name)
    if is_err(file):
        return is_err(file)
    functions.fput(cpu, bprm.file)
    bprm.file = file
    interpreter = [word.decode(errors="surrogateescape") for word in words[:2]]
    k.walks[bprm.address] = ([*interpreter, script, *args[1:]], env)
    return 0


@kernel_function
def kernel_read(k: Any, cpu: Cpu, file: int, buf: int, count: int, pos: int) -> int:
    """Read from a file for the kernel itself."""
    ret: int = k.functions.rw_verify_area(cpu, 0, file, pos, count)
    return ret or k.functions.__kernel_read(cpu, file, buf, count, pos)


@kernel_function
def __kernel_read(k: Any, cpu: Cpu, file: int, buf: int, count: int, pos: int) -> int:
    """Read from a file for the kernel itself."""
    opened = file_at(k, file)
    inode, at = opened.inode, k.mem.load(pos, 8)
    assert inode is not None
    data = bytes(inode.data[at : at + count])
    k.mem.write(buf, data.ljust(count, b"\0"))
    if "read_iter" in opened.ops:
        functions = k.functions
        functions.shmem_get_folio_gfp(cpu, inode.address, at // 4096, 0, 0, 0, 0, 0, 0)
        functions.folio_unlock(cpu, 0)
        if not at % 4096:
            functions.folio_mark_accessed(cpu, 0)
        functions.touch_atime(cpu, opened.struct.member_address("f_path"))
    return len(data)


def _load_elf_binary(k: Any, cpu: Cpu, bprm: Binprm) -> int:
    # load_elf_binary(): the headers are read, the old program goes, the new one gets its areas
    functions = k.functions
    pos, room = k.mem.alloc(8), k.mem.alloc(512)
    k.mem.store(pos, 8, 64)
    functions.kernel_read(cpu, bprm.file, room, 512, pos)
    k.mem.free(pos)
    k.mem.free(room)
    ret: int = functions.begin_new_exec(cpu, bprm.address)
    if ret:
        return ret
    functions.set_personality_64bit(cpu)
    functions.setup_new_exec(cpu, bprm.address)
    functions.randomize_stack_top(cpu, 0)
    for vma in k.sched.current(cpu).layout[:4]:
        functions.security_mmap_file(cpu, bprm.file, vma.vm_flags & 7, 2)
        functions.security_mmap_addr(cpu, vma.vm_start)
    functions.set_binfmt(cpu, 0)
    functions.finalize_exec(cpu, bprm.address)
    functions.start_thread(cpu, k.sched.current(cpu).regs.address, 0, 0)
    return 0


@kernel_function
def begin_new_exec(k: Any, cpu: Cpu, bprm: int) -> int:
    """Let the old program go: its other threads, its memory, its handlers of signals, what is closed on exec."""
    functions, found, task = k.functions, Binprm(k.mem, bprm), k.sched.current(cpu)
    functions.mnt_may_suid(cpu, 0)
    ret: int = functions.security_bprm_creds_from_file(cpu, bprm, found.file)
    if ret:
        return ret
    k.trace(cpu, "sched_prepare_exec", task.address, bprm)
    _end_other_threads(task)
    functions.posix_cpu_timers_exit(cpu, task.address)
    functions.exit_itimers(cpu, task.address)
    functions.flush_itimer_signals(cpu)
    functions.unshare_files(cpu)
    functions.do_close_on_exec(cpu, task.struct.files_ptr)
    functions.would_dump(cpu, bprm, found.file)
    _replace_mm(k, cpu, task, found)
    functions.exec_task_namespaces(cpu)
    functions.flush_thread(cpu)
    functions.set_dumpable(cpu, task.struct.mm_ptr, 1)
    path = file_at(k, found.file).dentry
    name = path.name.encode(errors="surrogateescape") if path is not None else b"?"
    script = k.mem.read_string(found.filename, 4096).rpartition(b"/")[2]
    set_comm(k, cpu, task, script or name, exec_=True)
    group = task.sig.group
    functions.flush_signal_handlers(cpu, task.address, 0)
    group.actions = {sig: action for sig, action in group.actions.items() if action.handler == SIG_IGN}
    functions.security_bprm_committing_creds(cpu, bprm)
    _set_ids(k, task, found)
    functions.commit_creds(cpu, task.cred.address)
    functions.security_bprm_committed_creds(cpu, bprm)
    task.struct.flags &= ~PF_FORKNOEXEC
    return 0


def _replace_mm(k: Any, cpu: Cpu, task: Task, bprm: Binprm) -> None:
    functions, (args, env) = k.functions, k.walks[bprm.address]
    old, shared = task.struct.mm_ptr, task.mm is not None and task.mm.users > 1
    functions.exec_mm_release(cpu, task.address, old)
    functions.membarrier_exec_mmap(cpu, old)
    if old and not shared:
        functions.mmput(cpu, old)
    task.exec_mm(args, env, 0)
    cpu.user = task.user
    task.brk = 0
    # rseq_execve()
    task.struct.rseq, task.struct.rseq_len, task.struct.rseq_sig = 0, 0, 0
    functions.set_mm_exe_file(cpu, task.struct.mm_ptr, bprm.file)
    new_layout(task, file_at(k, bprm.file))
    if task.vfork_done is not None:
        waits, task.vfork_done = task.vfork_done, None
        k.sched.wake_up_all(waits, cpu)


def _set_ids(k: Any, task: Task, bprm: Binprm) -> None:
    # bprm_fill_uid(), cap_bprm_creds_from_file()
    inode, cred = file_at(k, bprm.file).inode, task.cred
    if inode is not None and inode.i_mode & S_ISUID:
        cred.euid = cred.fsuid = cred.suid = inode.i_uid
    if inode is not None and inode.i_mode & S_ISGID and inode.i_mode & 0o10:
        cred.egid = cred.fsgid = cred.sgid = inode.i_gid
    cred.suid = cred.euid
    if cred.euid == 0:
        cred.cap_permitted = cred.cap_effective = CAP_ALL & cred.cap_bset
    else:
        cred.cap_permitted = cred.cap_effective = 0


def _end_other_threads(task: Task) -> None:
    # de_thread(): they end when they come to user space
    for thread in (task.leader, *task.leader.threads):
        if thread is not task and thread.alive:
            thread.sig.killed = True


@kernel_function
def do_close_on_exec(k: Any, cpu: Cpu, files: int) -> None:
    """Close what a new program does not get."""
    table = k.sched.current(cpu).files
    for fd in sorted(table.close_on_exec):
        obj = table.take(fd)
        if getattr(obj, "address", 0):
            k.functions.filp_close(cpu, obj.address, files)
        elif obj is not None:
            obj.put_user()


@kernel_function
def would_dump(k: Any, cpu: Cpu, _bprm: int, file: int) -> None:
    """See whether the task may read its own program."""
    inode = file_at(k, file).inode
    assert inode is not None
    k.functions.inode_permission(cpu, 0, inode.address, MAY_READ)


@kernel_function
def __set_task_comm(k: Any, cpu: Cpu, tsk: int, buf: int, _exec: int) -> None:
    """Give a task a name."""
    k.trace(cpu, "task_rename", tsk, buf)
    k.sched.by_address[tsk].comm = k.mem.read_string(buf, 16).decode(errors="replace")


def set_comm(k: Any, cpu: Cpu, task: Task, name: bytes, *, exec_: bool) -> None:
    """Give a task a name."""
    room = k.mem.alloc(256)
    k.mem.write(room, name[:255] + b"\0")
    k.functions.__set_task_comm(cpu, task.address, room, int(exec_))
    k.mem.free(room)


def _strings(user: UserMemory, address: int) -> list[str]:
    found: list[str] = []
    while address:
        pointer = int.from_bytes(user.read(address, 8), "little")
        if not pointer:
            break
        if len(found) >= MAX_ARG_STRINGS:
            raise ValueError("too many arguments")
        text = user.read_string(pointer, MAX_ARG_STRLEN)
        if len(text) >= MAX_ARG_STRLEN:
            raise ValueError("too long an argument")
        found.append(text.decode(errors="surrogateescape"))
        address += 8
    return found
