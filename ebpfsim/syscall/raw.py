"""The system call as it is: a number, the bytes of ``union bpf_attr``, and their size (``__sys_bpf`` of
kernel/bpf/syscall.c, v6.18).

Each command is read from the union and user memory, handed to the function of its name, and its results are written
back. Sizes, tails and pointers are checked here, everything else there.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, cast

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled, VerifierError
from ebpfsim.maps.bloom_filter import BloomFilterMap
from ebpfsim.maps.map import BatchError, Map
from ebpfsim.maps.types import MAP_TYPES
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.memory.user import UserFault, UserMemory
from ebpfsim.syscall.common import op_of
from ebpfsim.syscall.raw_info import write_info
from ebpfsim.test_run import TestRunError
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import BpfCmd
from ebpfsim.uapi.bpf_attr import ATTR_ENDS, ATTRS, LINK_CREATE_OPTS, LINK_CREATE_OPTS_OFF, SIZEOF_BPF_ATTR, Layout

if TYPE_CHECKING:
    from ebpfsim.syscall.bpf import Bpf

__all__ = ["RawCalls"]

LICENSE_BYTES = 128  # bpf_prog_load()
PATH_MAX = 4096
TP_NAME_BYTES = 128
BPF_LOG_FIXED = 8
MAX_USED_MAPS = 64
KMALLOC_MAX_SIZE = 4 << 20
INSN_BYTES, FUNC_INFO_BYTES, LINE_INFO_BYTES = 8, 8, 16


@dataclass(slots=True)
class Call:
    """One call: who makes it, the fields that it gave, and where results go."""

    bpf: "Bpf"
    cmd: BpfCmd
    layout: Layout
    data: bytes  # what the caller gave, filled up with zeroes
    given: Mapping[str, int | bytes]
    attr: bytearray  # as the caller has it

    @property
    def op(self) -> str:
        """libbpf's name of the command."""
        return op_of(self.cmd)

    @property
    def user(self) -> UserMemory:
        """The caller's memory."""
        return self.bpf.user

    def number(self, name: str) -> int:
        """Return a field that is a number."""
        value = self.given[name]
        assert isinstance(value, int)
        return value

    def put(self, name: str, value: int) -> None:
        """Write a field of the caller's union, if that is long enough to have it."""
        field = self.layout.fields[name]
        layout = Struct(field.format)
        if field.off + layout.size <= len(self.attr):
            layout.pack_into(self.attr, field.off, value & ((1 << 8 * layout.size) - 1))

    def read(self, name: str, size: int) -> bytes:
        """Return the bytes behind a pointer."""
        return self.user.read(self.number(name), size)

    def write(self, name: str, data: bytes) -> None:
        """Store bytes behind a pointer."""
        self.user.write(self.number(name), data)

    def fail(self, errno: int, detail: str) -> KernelError:
        """Return the refusal."""
        return KernelError(self.op, errno, detail)


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


# ---- maps -----------------------------------------------------------------------------------------------------------


# fields of BPF_MAP_CREATE that go through as they are
_MAP_FIELDS = (
    *("map_flags", "inner_map_fd", "map_extra", "btf_fd", "btf_key_type_id", "btf_value_type_id"),
    "btf_vmlinux_value_type_id",
)


def _map_create(call: Call) -> int:
    if call.number("excl_prog_hash_size") and not call.number("excl_prog_hash"):
        raise call.fail(Errno.EINVAL, "the size of a hash that is not there")
    _refuse(call, "map_ifindex", "excl_prog_hash")
    _refuse_token(call, "map_flags")
    node = call.number("numa_node")
    if call.number("map_flags") & f.BPF_F_NUMA_NODE and node not in (0, 0xFFFF_FFFF):
        raise call.fail(Errno.EINVAL, f"NUMA node {node} does not exist")
    numbers = {name: call.number(name) for name in _MAP_FIELDS}
    sizes = (call.number(name) for name in ("map_type", "key_size", "value_size", "max_entries"))
    return call.bpf.map_create(*sizes, name=_name(call.given["map_name"]), **numbers)


def _key(call: Call, map_: Map) -> bytes | None:
    # ___bpf_copy_key()
    if map_.key_size:
        return call.read("key", map_.key_size)
    if call.number("key"):
        raise call.fail(Errno.EINVAL, f"a {map_.type.lower} has no keys")
    return None


def _map_lookup_elem(call: Call) -> int:
    map_ = call.bpf._for_lookup(call.op, call.number("map_fd"), call.number("flags"))
    key = _key(call, map_)
    if isinstance(map_, BloomFilterMap):
        value = map_.sys_peek(call.read("value", map_.value_size))
    else:
        value = map_.sys_lookup(key, call.number("flags"))
    call.write("value", value)
    return 0


def _map_update_elem(call: Call) -> int:
    map_ = call.bpf._for_update(call.op, call.number("map_fd"), call.number("flags"))
    key = _key(call, map_)
    map_.sys_update(key, call.read("value", map_.user_value_size), call.number("flags"))
    return 0


def _map_delete_elem(call: Call) -> int:
    map_ = call.bpf._map(call.op, call.number("map_fd"), write=True)
    map_.sys_delete(_key(call, map_) or b"")
    return 0


def _map_get_next_key(call: Call) -> int:
    map_ = call.bpf._map(call.op, call.number("map_fd"), read=True)
    call.write("next_key", map_.sys_next_key(_key(call, map_) if call.number("key") else None))
    return 0


def _map_lookup_and_delete_elem(call: Call) -> int:
    map_ = call.bpf._for_take(call.op, call.number("map_fd"), call.number("flags"))
    call.write("value", map_.sys_lookup_and_delete(_key(call, map_), call.number("flags")))
    return 0


def _map_freeze(call: Call) -> int:
    call.bpf.map_freeze(call.number("map_fd"))
    return 0


def _for_batch(call: Call) -> Map:
    numbers = (call.number(name) for name in ("map_fd", "count", "elem_flags", "flags"))
    return call.bpf._for_batch(call.cmd, *numbers)


@contextmanager
def _counted(call: Call) -> Iterator[None]:
    # a batch that stops early says how far it came
    try:
        yield
    except BatchError as error:
        call.put("count", error.count)
        raise


def _map_lookup_batch(call: Call) -> int:
    map_, count = _for_batch(call), call.number("count")
    if not count:
        return 0
    # hash maps go on at a bucket, others behind a key
    by_bucket = BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH in MAP_TYPES[map_.type].batch
    call.put("count", 0)
    start = call.read("in_batch", 4 if by_bucket else map_.key_size) if call.number("in_batch") else None
    with _counted(call):
        batch = map_.sys_lookup_batch(count, start, call.cmd == BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH)
    call.write("keys", b"".join(batch.keys))
    call.write("values", b"".join(batch.values))
    call.write("out_batch", batch.out_batch)
    call.put("count", len(batch.keys))
    if batch.done:
        raise BatchError(call.op, Errno.ENOENT, len(batch.keys), "the end of the map")
    return 0


def _elements(call: Call, name: str, size: int, count: int) -> tuple[list[bytes], bool]:
    # as many as user memory holds, and whether that is all
    found = []
    for number in range(count):
        try:
            found.append(call.user.read(call.number(name) + number * size, size))
        except UserFault:
            return found, False
    return found, True


def _map_update_batch(call: Call) -> int:
    map_, count = _for_batch(call), call.number("count")
    keys, all_keys = _elements(call, "keys", map_.key_size, count)
    values, all_values = _elements(call, "values", map_.user_value_size, len(keys))
    with _counted(call):
        map_.sys_update_batch(keys[: len(values)], values, call.number("elem_flags"))
    return _end_of_batch(call, len(values), count, all_keys and all_values)


def _map_delete_batch(call: Call) -> int:
    map_, count = _for_batch(call), call.number("count")
    keys, complete = _elements(call, "keys", map_.key_size, count)
    with _counted(call):
        map_.sys_delete_batch(keys)
    return _end_of_batch(call, len(keys), count, complete)


def _end_of_batch(call: Call, done: int, count: int, complete: bool) -> int:
    if count:
        call.put("count", done)
    if not complete:
        raise BatchError(call.op, Errno.EFAULT, done, "keys or values that cannot be read")
    return 0


# ---- programs -------------------------------------------------------------------------------------------------------

# fields that go through as they are
_PROG_FIELDS = ("prog_type", "expected_attach_type", "prog_flags", "attach_btf_id", "attach_prog_fd", "prog_btf_fd")


def _prog_load(call: Call) -> int:
    _refuse(call, "core_relo_cnt", "signature", "fd_array_cnt")
    _refuse_token(call, "prog_flags")
    level, room = call.number("log_level"), call.number("log_size")
    buffer = call.number("log_buf")
    if bool(buffer) != bool(room) or (buffer and not level) or room > 0xFFFF_FFFF >> 2:
        raise call.fail(Errno.EINVAL, f"a log of level {level} in {room} bytes at {buffer:#x}")
    count = call.number("insn_cnt")
    if not 0 < count <= 1_000_000:  # BPF_COMPLEXITY_LIMIT_INSNS
        raise call.fail(Errno.E2BIG, f"{count} instructions")
    numbers = {name: call.number(name) for name in _PROG_FIELDS} | {"ifindex": call.number("prog_ifindex")}
    license_ = call.user.read_string(call.number("license"), LICENSE_BYTES)[: LICENSE_BYTES - 1].decode("latin-1")
    insns = call.read("insns", count * INSN_BYTES)
    try:
        loaded = call.bpf.prog_load(
            insns=insns,
            name=_name(call.given["prog_name"]),
            license=license_,
            log_level=level,
            fd_array=_fd_array(call),
            func_info=_records(call, "func_info", FUNC_INFO_BYTES),
            line_info=_records(call, "line_info", LINE_INFO_BYTES),
            **numbers,
        )
    except VerifierError as error:
        _write_log(call, error.log if level else "")
        raise
    try:
        _write_log(call, loaded.log)
    except (KernelError, UserFault):
        call.bpf.close(loaded.fd)
        raise
    return loaded.fd


def _fd_array(call: Call) -> tuple[int, ...]:
    # it has no length: as many descriptors as instructions could name are looked at
    if not call.number("fd_array"):
        return ()
    found, _ = _elements(call, "fd_array", 4, MAX_USED_MAPS)
    return tuple(int.from_bytes(fd, "little") for fd in found)


def _records(call: Call, name: str, size: int) -> bytes:
    # func_info and line_info: check_btf_info() wants records of at least this size
    count, given = call.number(f"{name}_cnt"), call.number(f"{name}_rec_size")
    if not count:
        return b""
    if given < size or given > 252 or given % 4:  # MAX_FUNCINFO_REC_SIZE
        raise call.fail(Errno.EINVAL, f"{name} records of {given} bytes")
    data = call.read(name, count * given)
    rows = [data[at : at + given] for at in range(0, len(data), given)]
    if any(any(row[size:]) for row in rows):
        raise call.fail(Errno.E2BIG, f"{name} records that are not zero behind byte {size}")
    return b"".join(row[:size] for row in rows)


def _write_log(call: Call, text: str) -> None:
    # bpf_vlog_finalize(): the end of the log unless BPF_LOG_FIXED asks for its beginning; ENOSPC when it did not fit
    data = text.encode() + b"\0"
    call.put("log_true_size", len(data) if call.number("log_level") else 0)
    room = call.number("log_size")
    if not room:
        return
    cut = data
    if len(data) > room:
        cut = data[: room - 1] + b"\0" if call.number("log_level") & BPF_LOG_FIXED else data[-room:]
    call.write("log_buf", cut)
    if len(data) > room:
        raise call.fail(Errno.ENOSPC, f"a log of {len(data)} bytes, room for {room}")


def _prog_test_run(call: Call) -> int:
    sizes = {name: call.number(name) for name in ("data_size_in", "data_size_out", "ctx_size_in", "ctx_size_out")}
    for size, pointer in (("ctx_size_in", "ctx_in"), ("ctx_size_out", "ctx_out")):
        if bool(sizes[size]) != bool(call.number(pointer)):
            raise call.fail(Errno.EINVAL, f"{pointer} and its size do not go together")
    try:
        data_in = call.read("data_in", sizes["data_size_in"])
    except UserFault:
        if sizes["data_size_in"] > KMALLOC_MAX_SIZE:
            # room for it is asked for before it is read
            raise call.fail(Errno.ENOMEM, f"{sizes['data_size_in']} bytes of data") from None
        raise
    ctx_in = call.read("ctx_in", sizes["ctx_size_in"])
    wants = bool(call.number("data_out"))
    room = sizes["data_size_out"] if wants and sizes["data_size_out"] else None
    numbers = {name: call.number(name) for name in ("repeat", "flags", "cpu", "batch_size")}
    try:
        run = call.bpf.prog_test_run(call.number("prog_fd"), data_in, ctx_in=ctx_in, data_size_out=room, **numbers)
    except TestRunError as error:
        call.put("data_size_out", error.data_size_out)
        call.put("retval", error.retval)
        raise
    if wants:
        call.write("data_out", run.data_out)
    call.put("data_size_out", len(run.data_out))
    if call.number("ctx_out"):
        call.write("ctx_out", run.ctx_out[: sizes["ctx_size_out"]])
        call.put("ctx_size_out", len(run.ctx_out))
    call.put("retval", run.retval)
    call.put("duration", run.duration_ns)
    return 0


def _prog_bind_map(call: Call) -> int:
    call.bpf.prog_bind_map(call.number("prog_fd"), call.number("map_fd"), flags=call.number("flags"))
    return 0


def _enable_stats(call: Call) -> int:
    return call.bpf.enable_stats(call.number("type"))


def _btf_load(call: Call) -> int:
    if call.number("btf_flags") & ~f.BPF_F_TOKEN_FD:
        raise call.fail(Errno.EINVAL, f"btf_flags {call.number('btf_flags'):#x}")
    _refuse_token(call, "btf_flags")
    size, level = call.number("btf_size"), call.number("btf_log_level")
    if bool(call.number("btf_log_buf")) != bool(call.number("btf_log_size")):
        raise call.fail(Errno.EINVAL, "a log without buffer or size")
    if size > 16 << 20:  # BTF_MAX_SIZE
        raise call.fail(Errno.E2BIG, f"{size} bytes of BTF")
    return call.bpf.btf_load(call.read("btf", size), log_level=level)


# ---- ids, information, pins -----------------------------------------------------------------------------------------


def _get_next_id(call: Call) -> int:
    call.put("next_id", getattr(call.bpf, call.op)(call.number("id")))
    return 0


def _get_fd_by_id(call: Call) -> int:
    flags = {"open_flags": call.number("open_flags")} if call.cmd == BpfCmd.MAP_GET_FD_BY_ID else {}
    if call.cmd == BpfCmd.BTF_GET_FD_BY_ID:
        if call.number("open_flags") & ~f.BPF_F_TOKEN_FD:
            raise call.fail(Errno.EINVAL, f"open_flags {call.number('open_flags'):#x}")
        _refuse_token(call, "open_flags")
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
    if any(more[LINK_CREATE_OPTS.size :]):
        call.bpf._prog(call.op, call.number("prog_fd"))
        raise NotModelled("bpf(BPF_LINK_CREATE) with fields of its attach type", "kernel/bpf/syscall.c: link_create")
    opts = {name: value for name, value in LINK_CREATE_OPTS.unpack(more).items() if isinstance(value, int) and value}
    numbers = (call.number(name) for name in ("prog_fd", "target_fd", "attach_type"))
    return call.bpf.link_create(*numbers, flags=call.number("flags"), **opts)


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
    call.bpf.prog_query(call.number("target_fd"), call.number("attach_type"), query_flags=call.number("query_flags"))
    return 0


def _raw_tracepoint_open(call: Call) -> int:
    name = ""
    if call.number("name"):
        name = call.user.read_string(call.number("name"), TP_NAME_BYTES)[: TP_NAME_BYTES - 1].decode("latin-1")
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


def _refuse(call: Call, *names: str) -> None:
    for name in names:
        if call.number(name):
            raise NotModelled(f"bpf({call.cmd.kernel_name}) with {name}", "kernel/bpf/syscall.c")


def _refuse_token(call: Call, flags: str) -> None:
    # there are no tokens, so none is behind any descriptor
    if call.number(flags) & f.BPF_F_TOKEN_FD:
        raise call.fail(Errno.EINVAL, "the descriptor of a token that is none")


def _name(value: int | bytes) -> str:
    assert isinstance(value, bytes)
    return value.split(b"\0")[0].decode("utf-8", "surrogateescape")


_BY_ID = (BpfCmd.PROG_GET_FD_BY_ID, BpfCmd.MAP_GET_FD_BY_ID, BpfCmd.BTF_GET_FD_BY_ID, BpfCmd.LINK_GET_FD_BY_ID)
_NEXT_ID = (BpfCmd.PROG_GET_NEXT_ID, BpfCmd.MAP_GET_NEXT_ID, BpfCmd.BTF_GET_NEXT_ID, BpfCmd.LINK_GET_NEXT_ID)
HANDLERS: Mapping[BpfCmd, Callable[[Call], int]] = {
    BpfCmd.MAP_CREATE: _map_create,
    BpfCmd.MAP_LOOKUP_ELEM: _map_lookup_elem,
    BpfCmd.MAP_UPDATE_ELEM: _map_update_elem,
    BpfCmd.MAP_DELETE_ELEM: _map_delete_elem,
    BpfCmd.MAP_GET_NEXT_KEY: _map_get_next_key,
    BpfCmd.MAP_LOOKUP_AND_DELETE_ELEM: _map_lookup_and_delete_elem,
    BpfCmd.MAP_FREEZE: _map_freeze,
    BpfCmd.MAP_LOOKUP_BATCH: _map_lookup_batch,
    BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH: _map_lookup_batch,
    BpfCmd.MAP_UPDATE_BATCH: _map_update_batch,
    BpfCmd.MAP_DELETE_BATCH: _map_delete_batch,
    BpfCmd.PROG_LOAD: _prog_load,
    BpfCmd.PROG_TEST_RUN: _prog_test_run,
    BpfCmd.PROG_BIND_MAP: _prog_bind_map,
    BpfCmd.ENABLE_STATS: _enable_stats,
    BpfCmd.BTF_LOAD: _btf_load,
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
