"""The system call as it is: a number, the bytes of ``union bpf_attr``, and their size (``__sys_bpf`` of
kernel/bpf/syscall.c, v6.18).

Each command is read from the union and user memory, handed to the function of its name, and its results are written
back. Sizes, tails and pointers are checked here, everything else there.
"""

from collections.abc import Callable, Mapping
from struct import Struct, pack
from typing import TYPE_CHECKING, cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.memory.user import UserFault, UserMemory
from ebpfsim.syscall import raw_maps, raw_progs
from ebpfsim.syscall.raw_call import Call, refuse_token
from ebpfsim.syscall.raw_info import write_info
from ebpfsim.syscall.raw_links import link_create_opts
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import AttachType, BpfCmd
from ebpfsim.uapi.bpf_attr import ATTR_ENDS, ATTRS, LINK_CREATE_OPTS_OFF, SIZEOF_BPF_ATTR

if TYPE_CHECKING:
    from ebpfsim.syscall.bpf import Bpf

__all__ = ["RawCalls"]

PATH_MAX = 4096
# of union bpf_attr.link_create for iterators: iter_info, iter_info_len; and what lies there: union bpf_iter_link_info
ITER_OPTS, ITER_LINK_INFO_BYTES = Struct("<QI"), 16
TP_NAME_BYTES = 128


class RawCalls:
    """``host.bpf.raw``."""

    user: UserMemory

    def raw(self, cmd: int, attr: bytearray, size: int | None = None) -> int:
        """bpf(2): return what the system call does; ``attr`` is filled in, pointers in it are those of ``user``.

        ``size`` is what the caller says of the union, its real length by default; what is missing then reads as zero.
        A refusal raises KernelError.
        """
        size = len(attr) if size is None else size
        name = BpfCmd(cmd).name.lower() if cmd in _KNOWN else f"bpf({cmd})"
        if size > PAGE_SIZE:
            raise KernelError(name, Errno.E2BIG, f"a union of {size} bytes")
        data = bytes(attr[:size]).ljust(SIZEOF_BPF_ATTR, b"\0")
        if any(data[SIZEOF_BPF_ATTR:]):
            raise KernelError(name, Errno.E2BIG, f"the union is not zero behind byte {SIZEOF_BPF_ATTR}")
        if cmd not in _KNOWN:
            raise KernelError(name, Errno.EINVAL, "no such command")
        command = BpfCmd(cmd)
        layout = ATTRS[command]
        end = ATTR_ENDS.get(command, layout.size)
        if any(data[end:]):
            raise KernelError(name, Errno.EINVAL, f"the union is not zero behind byte {end}")
        call = Call(cast("Bpf", self), command, layout, data, layout.unpack(data), attr)
        try:
            return HANDLERS[command](call)
        except UserFault as fault:
            raise KernelError(name, Errno.EFAULT, str(fault)) from None


_KNOWN = frozenset(int(command) for command in BpfCmd)


# ---- ids, information, pins -----------------------------------------------------------------------------------------


def _get_next_id(call: Call) -> int:
    call.put("next_id", getattr(call.bpf, call.op)(call.number("id")))
    return 0


def _get_fd_by_id(call: Call) -> int:
    flags = {"open_flags": call.number("open_flags")} if call.cmd == BpfCmd.MAP_GET_FD_BY_ID else {}
    if call.cmd == BpfCmd.BTF_GET_FD_BY_ID:
        if call.number("open_flags") & ~f.BPF_F_TOKEN_FD:
            raise call.fail(Errno.EINVAL, f"open_flags {call.number('open_flags'):#x}")
        refuse_token(call, "open_flags")
    found: int = getattr(call.bpf, call.op)(call.number("id"), **flags)
    return found


def _obj_get_info_by_fd(call: Call) -> int:
    info = call.bpf.obj_get_info_by_fd(call.number("bpf_fd"))
    call.put("info_len", write_info(call.op, call.user, info, call.number("info"), call.number("info_len")))
    return 0


def _path(call: Call) -> str:
    return call.user.read_string(call.number("pathname"), PATH_MAX).decode("utf-8", "surrogateescape")


def _obj_pin(call: Call) -> int:
    if call.number("file_flags") & ~f.BPF_F_PATH_FD:
        raise call.fail(Errno.EINVAL, f"file_flags {call.number('file_flags'):#x}")
    _refuse_path_fd(call)
    call.bpf._pinnable(call.number("bpf_fd"))
    call.bpf.obj_pin(call.number("bpf_fd"), _path(call))
    return 0


def _obj_get(call: Call) -> int:
    if call.number("bpf_fd") or call.number("file_flags") & ~(f.BPF_F_RDONLY | f.BPF_F_WRONLY | f.BPF_F_PATH_FD):
        raise call.fail(Errno.EINVAL, "bpf_fd or unknown file_flags")
    _refuse_path_fd(call)
    return call.bpf.obj_get(_path(call), file_flags=call.number("file_flags"))


def _refuse_path_fd(call: Call) -> None:
    if call.number("file_flags") & f.BPF_F_PATH_FD:
        raise NotModelled(f"{call.cmd.kernel_name} with BPF_F_PATH_FD", "kernel/bpf/syscall.c")
    if call.number("path_fd"):
        raise call.fail(Errno.EINVAL, "path_fd without BPF_F_PATH_FD")


# ---- attachments ----------------------------------------------------------------------------------------------------


def _link_create(call: Call) -> int:
    more = call.data[LINK_CREATE_OPTS_OFF:]
    if call.number("attach_type") == AttachType.TRACE_ITER:
        return _iter_link_create(call, more)
    opts = link_create_opts(call, more)
    numbers = (call.number(name) for name in ("prog_fd", "target_fd", "attach_type"))
    return call.bpf.link_create(*numbers, flags=call.number("flags"), **opts)


def _iter_link_create(call: Call, more: bytes) -> int:
    # bpf_iter_link_attach(): iter_info and its size
    address, size = ITER_OPTS.unpack_from(more)
    if bool(address) != bool(size):
        raise call.fail(Errno.EINVAL, f"iter_info of {size} bytes at {address:#x}")
    info = call.user.read(address, size)
    if any(info[ITER_LINK_INFO_BYTES:]):
        raise call.fail(Errno.E2BIG, f"iter_info that is not zero behind byte {ITER_LINK_INFO_BYTES}")
    numbers = (call.number(name) for name in ("prog_fd", "target_fd", "attach_type"))
    return call.bpf.link_create(*numbers, flags=call.number("flags"), iter_info=info)


def _link_update(call: Call) -> int:
    numbers = {name: call.number(name) for name in ("old_prog_fd", "flags")}
    call.bpf.link_update(call.number("link_fd"), call.number("new_prog_fd"), **numbers)
    return 0


def _link_detach(call: Call) -> int:
    call.bpf.link_detach(call.number("link_fd"))
    return 0


def _prog_attach(call: Call) -> int:
    names = ("attach_flags", "replace_bpf_fd", "relative_fd", "expected_revision")
    target = (call.number("target_fd"), call.number("attach_type"))
    numbers = {name: call.number(name) for name in names}
    attach = call.bpf.prog_attach if call.cmd == BpfCmd.PROG_ATTACH else call.bpf.prog_detach
    attach(call.number("attach_bpf_fd"), *target, flags=numbers.pop("attach_flags"), **numbers)
    return 0


def _prog_query(call: Call) -> int:
    found = call.bpf.prog_query(
        call.number("target_fd"), call.number("attach_type"), query_flags=call.number("query_flags")
    )
    call.put("attach_flags", found.attach_flags)
    call.put("revision", found.revision)
    room = call.number("prog_cnt")
    call.put("prog_cnt", found.count)
    if not room or not call.number("prog_ids") or not found.count:
        return 0
    for name in ("prog_ids", "prog_attach_flags", "link_ids", "link_attach_flags"):
        numbers = getattr(found, name)[:room]
        if call.number(name) and numbers:
            call.write(name, pack(f"<{len(numbers)}I", *numbers))
    if room < found.count:
        raise call.fail(Errno.ENOSPC, f"{found.count} programs, room for {room}")
    return 0


def _raw_tracepoint_open(call: Call) -> int:
    name = ""
    if call.number("name"):
        name = call.user.read_string(call.number("name"), TP_NAME_BYTES)[: TP_NAME_BYTES - 1].decode("latin-1")
        # a name of no characters is not the same as none
        name = name or "\0"
    return call.bpf.raw_tracepoint_open(name, call.number("prog_fd"), cookie=call.number("cookie"))


def _iter_create(call: Call) -> int:
    return call.bpf.iter_create(call.number("link_fd"), flags=call.number("flags"))


def _token_create(call: Call) -> int:
    return call.bpf.token_create(call.number("bpffs_fd"), flags=call.number("flags"))


def _prog_stream_read(call: Call) -> int:
    call.bpf._prog(call.op, call.number("prog_fd"))
    if call.number("stream_id") not in (1, 2):  # BPF_STREAM_STDOUT, BPF_STREAM_STDERR
        raise call.fail(Errno.ENOENT, f"no stream {call.number('stream_id')}")
    return _not_modelled(call)


def _not_modelled(call: Call) -> int:
    raise NotModelled(f"bpf({call.cmd.kernel_name})", "kernel/bpf/syscall.c")


_BY_ID = (BpfCmd.PROG_GET_FD_BY_ID, BpfCmd.MAP_GET_FD_BY_ID, BpfCmd.BTF_GET_FD_BY_ID, BpfCmd.LINK_GET_FD_BY_ID)
_NEXT_ID = (BpfCmd.PROG_GET_NEXT_ID, BpfCmd.MAP_GET_NEXT_ID, BpfCmd.BTF_GET_NEXT_ID, BpfCmd.LINK_GET_NEXT_ID)
HANDLERS: Mapping[BpfCmd, Callable[[Call], int]] = {
    **raw_maps.HANDLERS,
    **raw_progs.HANDLERS,
    **dict.fromkeys(_NEXT_ID, _get_next_id),
    **dict.fromkeys(_BY_ID, _get_fd_by_id),
    BpfCmd.OBJ_GET_INFO_BY_FD: _obj_get_info_by_fd,
    BpfCmd.OBJ_PIN: _obj_pin,
    BpfCmd.OBJ_GET: _obj_get,
    BpfCmd.LINK_CREATE: _link_create,
    BpfCmd.LINK_UPDATE: _link_update,
    BpfCmd.LINK_DETACH: _link_detach,
    BpfCmd.PROG_ATTACH: _prog_attach,
    BpfCmd.PROG_DETACH: _prog_attach,
    BpfCmd.PROG_QUERY: _prog_query,
    BpfCmd.RAW_TRACEPOINT_OPEN: _raw_tracepoint_open,
    BpfCmd.ITER_CREATE: _iter_create,
    BpfCmd.TOKEN_CREATE: _token_create,
    BpfCmd.TASK_FD_QUERY: _not_modelled,
    BpfCmd.PROG_STREAM_READ_BY_FD: _prog_stream_read,
}
