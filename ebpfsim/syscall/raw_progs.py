"""The program and BTF commands of bpf(2) as bytes (kernel/bpf/syscall.c, v6.18)."""

from collections.abc import Callable, Mapping

from ebpfsim.btf.check import check_btf
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.memory.user import UserFault
from ebpfsim.syscall.raw_call import Call, elements, refuse, refuse_token, text_of
from ebpfsim.test_run.attr import TestRunError
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import BpfCmd

__all__ = ["HANDLERS"]

LICENSE_BYTES = 128  # bpf_prog_load()
BPF_LOG_FIXED = 8
MAX_USED_MAPS = 64
KMALLOC_MAX_SIZE = 4 << 20
INSN_BYTES, FUNC_INFO_BYTES, LINE_INFO_BYTES = 8, 8, 16


# fields that go through as they are
_PROG_FIELDS = ("prog_type", "expected_attach_type", "prog_flags", "attach_btf_id", "attach_prog_fd", "prog_btf_fd")


def _prog_load(call: Call) -> int:
    refuse(call, "core_relo_cnt", "signature", "fd_array_cnt")
    refuse_token(call, "prog_flags")
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
            name=text_of(call.given["prog_name"]),
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
    found, _ = elements(call, "fd_array", 4, MAX_USED_MAPS)
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


def _write_log(call: Call, text: str, prefix: str = "log") -> None:
    # bpf_vlog_finalize(): the end of the log unless BPF_LOG_FIXED asks for its beginning; ENOSPC when it did not fit
    data = text.encode() + b"\0"
    call.put(f"{prefix}_true_size", len(data) if call.number(f"{prefix}_level") else 0)
    room = call.number(f"{prefix}_size")
    if not room:
        return
    cut = data
    if len(data) > room:
        cut = data[: room - 1] + b"\0" if call.number(f"{prefix}_level") & BPF_LOG_FIXED else data[-room:]
    call.write(f"{prefix}_buf", cut)
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
    refuse_token(call, "btf_flags")
    size, level = call.number("btf_size"), call.number("btf_log_level")
    buffer, room = call.number("btf_log_buf"), call.number("btf_log_size")
    if bool(buffer) != bool(room) or (buffer and not level):
        raise call.fail(Errno.EINVAL, f"a log of level {level} in {room} bytes at {buffer:#x}")
    if size > 16 << 20:  # BTF_MAX_SIZE
        raise call.fail(Errno.E2BIG, f"{size} bytes of BTF")
    data = call.read("btf", size)
    try:
        fd = call.bpf.btf_load(data, log_level=level)
    except VerifierError as error:
        _write_log(call, error.log if level else "", "btf_log")
        raise
    if level:
        try:
            _write_log(call, check_btf(data, wants_log=True).log, "btf_log")
        except (KernelError, UserFault):
            call.bpf.close(fd)
            raise
    return fd


HANDLERS: Mapping[BpfCmd, Callable[[Call], int]] = {
    BpfCmd.PROG_LOAD: _prog_load,
    BpfCmd.PROG_TEST_RUN: _prog_test_run,
    BpfCmd.PROG_BIND_MAP: _prog_bind_map,
    BpfCmd.ENABLE_STATS: _enable_stats,
    BpfCmd.BTF_LOAD: _btf_load,
}
