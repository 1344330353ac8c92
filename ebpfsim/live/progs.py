"""Programs, BTF and links on the live kernel."""

from collections.abc import Sequence

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.live.objects import LiveObjects
from ebpfsim.live.sys import Buffer, CallError, Value, bpf, buffer
from ebpfsim.syscall.results import Loaded, ProgInfo, TestRun
from ebpfsim.uapi.bpf import BpfCmd, ProgType
from ebpfsim.uapi.flags import BPF_F_TEST_XDP_LIVE_FRAMES

__all__ = ["LivePrograms"]

FIRST_LOG_BYTES = 64 << 10
MAX_LOG_BYTES = 16 << 20
# room for what a program may add in front of and behind the data it was given
TEST_RUN_ROOM = 4096
CTX_ROOM = 256  # no context is longer
# types whose test runs refuse to give the context back
WITHOUT_CTX_OUT = {ProgType.RAW_TRACEPOINT, ProgType.RAW_TRACEPOINT_WRITABLE, ProgType.TRACING}


class LivePrograms(LiveObjects):
    """BPF_PROG_*, BPF_BTF_LOAD."""

    def prog_load(
        self,
        prog_type: int,
        insns: bytes,
        *,
        name: str = "",
        license: str = "GPL",  # noqa: A002
        expected_attach_type: int = 0,
        prog_flags: int = 0,
        attach_btf_id: int = 0,
        attach_prog_fd: int = 0,
        prog_btf_fd: int = 0,
        func_info: bytes = b"",
        line_info: bytes = b"",
        fd_array: Sequence[int] = (),
        log_level: int = 0,
        ifindex: int = 0,
    ) -> Loaded:
        """BPF_PROG_LOAD; a refusal is asked for again with log level 1 when there was none."""
        fds = b"".join(fd.to_bytes(4, "little") for fd in fd_array)
        # fmt: off
        attr: dict[str, Value] = {
            "prog_type": prog_type, "insn_cnt": len(insns) // 8, "insns": buffer(insns),
            "license": buffer(license.encode() + b"\0"), "prog_flags": prog_flags, "prog_name": name.encode(),
            "prog_ifindex": ifindex, "expected_attach_type": expected_attach_type, "prog_btf_fd": prog_btf_fd,
            "func_info_rec_size": 8 if func_info else 0, "func_info": buffer(func_info) if func_info else None,
            "func_info_cnt": len(func_info) // 8, "line_info_rec_size": 16 if line_info else 0,
            "line_info": buffer(line_info) if line_info else None, "line_info_cnt": len(line_info) // 16,
            "attach_btf_id": attach_btf_id, "attach_prog_fd": attach_prog_fd,
            "fd_array": buffer(fds) if fds else None,
        }
        # fmt: on
        fd, log = _logged(BpfCmd.PROG_LOAD, attr, "log", log_level)
        info = self.obj_get_info_by_fd(fd)
        assert isinstance(info, ProgInfo)
        return Loaded(fd, log, info.verified_insns)

    def prog_test_run(
        self,
        fd: int,
        data_in: bytes = b"",
        *,
        ctx_in: bytes = b"",
        data_size_out: int | None = None,
        repeat: int = 1,
        flags: int = 0,
        cpu: int = 0,
        batch_size: int = 0,
    ) -> TestRun:
        """BPF_PROG_TEST_RUN."""
        # live frames give nothing back
        is_live = bool(flags & BPF_F_TEST_XDP_LIVE_FRAMES)
        room_out = 0 if is_live else len(data_in) + TEST_RUN_ROOM
        if data_size_out is None:
            data_size_out = room_out if data_in else 0
        data_out, ctx = buffer(data_size_out), buffer(ctx_in)
        ctx_out, room = self._ctx_out(fd, ctx) if ctx_in and not is_live else (None, 0)
        # fmt: off
        _, after = bpf(BpfCmd.PROG_TEST_RUN, {
            "prog_fd": fd, "data_size_in": len(data_in), "data_in": buffer(data_in) if data_in else None,
            "data_size_out": data_size_out, "data_out": data_out if data_size_out else None,
            "repeat": repeat, "ctx_size_in": len(ctx_in), "ctx_in": ctx if ctx_in else None,
            "ctx_size_out": room, "ctx_out": ctx_out if room else None,
            "flags": flags, "cpu": cpu, "batch_size": batch_size,
        })
        # fmt: on
        sizes = [after[key] for key in ("retval", "data_size_out", "ctx_size_out", "duration")]
        retval, nr_data, nr_ctx, duration = (size for size in sizes if isinstance(size, int))
        packet = data_out.raw[:nr_data] if data_in and data_size_out else b""
        context = ctx_out.raw[: nr_ctx if room else len(ctx_in)] if ctx_out is not None else b""
        return TestRun(retval, packet, context, duration)

    def _ctx_out(self, fd: int, ctx: Buffer) -> tuple[Buffer | None, int]:
        # where the context comes out, and the room that the kernel is told of
        info = self.obj_get_info_by_fd(fd)
        if getattr(info, "type", 0) == ProgType.SYSCALL:
            # they write to the memory of the caller
            return ctx, 0
        return (None, 0) if getattr(info, "type", 0) in WITHOUT_CTX_OUT else (buffer(CTX_ROOM), CTX_ROOM)

    def prog_bind_map(self, prog_fd: int, map_fd: int, *, flags: int = 0) -> None:
        """BPF_PROG_BIND_MAP."""
        bpf(BpfCmd.PROG_BIND_MAP, {"prog_fd": prog_fd, "map_fd": map_fd, "flags": flags})

    def btf_load(self, data: bytes, *, log_level: int = 0) -> int:
        """BPF_BTF_LOAD; a refusal is asked for again with log level 1 when there was none."""
        attr: dict[str, Value] = {"btf": buffer(data), "btf_size": len(data)}
        return _logged(BpfCmd.BTF_LOAD, attr, "btf_log", log_level)[0]

    def enable_stats(self, kind: int) -> int:
        """BPF_ENABLE_STATS."""
        return bpf(BpfCmd.ENABLE_STATS, {"type": kind})[0]


def _logged(cmd: BpfCmd, attr: dict[str, Value], prefix: str, level: int) -> tuple[int, str]:
    """Return the descriptor that a command gives, and its log; VerifierError with the log of level 1 at least."""
    size = FIRST_LOG_BYTES
    while True:
        log = buffer(size)
        wanted: dict[str, Value] = {f"{prefix}_level": level, f"{prefix}_buf": log, f"{prefix}_size": size}
        try:
            fd, _ = bpf(cmd, attr | wanted if level else attr)
            return fd, log.value.decode(errors="replace")
        except CallError as error:
            if error.errno == Errno.ENOSPC and level and size < MAX_LOG_BYTES:
                size *= 4
            elif not level:
                level = 1
            else:
                # a log without a reason says that the verifier was content and somebody else was not
                refused = VerifierError(error.op, error.errno, log.value.decode(errors="replace"))
                raise (refused if refused.reason else KernelError(error.op, error.errno, error.detail)) from None
