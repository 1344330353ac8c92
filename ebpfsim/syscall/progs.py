"""The program commands of bpf(2) (kernel/bpf/syscall.c, v6.18)."""

from collections.abc import Sequence

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.insn import decode
from ebpfsim.objects import KernelObject
from ebpfsim.prog_load import ProgParts, attach_type_of, load_prog
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.btf import BtfObject, BtfUsers
from ebpfsim.syscall.common import check_name, enum_value
from ebpfsim.syscall.kernel import BpfKernel
from ebpfsim.syscall.results import Loaded, TestRun
from ebpfsim.test_run.attr import TestRunAttr
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.env import PRIVILEGED, LoadAttr, Privileges

__all__ = ["ProgCalls"]

BPF_STATS_RUN_TIME = 0  # enum bpf_stats_type


class StatsFile(KernelObject):
    """What BPF_ENABLE_STATS returns: statistics are kept while it is open."""

    def __init__(self, calls: "ProgCalls") -> None:
        super().__init__()
        self._calls = calls
        calls.stats_users += 1

    def on_release(self) -> None:
        """Stop keeping statistics unless somebody else wants them."""
        self._calls.stats_users -= 1


class ProgCalls(BtfUsers):
    """BPF_PROG_LOAD, BPF_PROG_TEST_RUN, BPF_PROG_BIND_MAP, BPF_ENABLE_STATS."""

    def __init__(self, kernel: BpfKernel) -> None:
        super().__init__(kernel)
        self.stats_users = 0

    @property
    def stats_enabled(self) -> bool:
        """Whether run statistics are kept (``bpf_stats_enabled_key``): by the sysctl or while somebody asks for it."""
        return self.kernel.config.stats or self.stats_users > 0

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
        """BPF_PROG_LOAD: ``insns`` are the bytes that the real call takes, descriptors in their LD_IMM64."""
        op = "prog_load"
        target = self._target(op, attach_prog_fd, attach_btf_id) if attach_prog_fd else None
        if ifindex:
            raise NotModelled("bpf(BPF_PROG_LOAD) with prog_ifindex", "kernel/bpf/offload.c")
        # without records that refer to it BTF is not even looked for (check_btf_info)
        btf = self._user_btf(op, prog_btf_fd) if func_info or line_info else None
        attr = LoadAttr(
            prog_type=enum_value(op, ProgType, prog_type),
            insns=decode(insns, op),
            name=name,
            license=license,
            expected_attach_type=attach_type_of(prog_type, expected_attach_type),
            prog_flags=prog_flags,
            btf=btf.btf if btf is not None else None,
            func_info=func_info,
            line_info=line_info,
            attach_btf_id=attach_btf_id,
            attach_prog=target,
            log_level=log_level,
            fd_array=tuple(fd_array),
            privileges=self._privileges,
        )
        check_name(op, name)
        if btf is not None:
            btf.get()
        try:
            prog, verified = load_prog(self.kernel, attr, ProgParts(btf, self._released))
        except Exception:
            if btf is not None:
                btf.put()
            raise
        self.kernel.progs.add(prog)
        self.kernel.audit.prog_loaded(prog.id)
        return Loaded(self.kernel.fds.install(prog), verified.log if log_level else "", prog.verified_insns)

    @property
    def _privileges(self) -> Privileges:
        # what the calling task may
        return PRIVILEGED

    def _target(self, op: str, fd: int, btf_id: int) -> Prog | None:
        # attach_prog_fd or attach_btf_obj_fd, which share their place: a program, or BTF of the kernel
        file = self.kernel.fds.file(fd)
        if file is not None and isinstance(file.obj, Prog):
            return file.obj
        if file is None or not isinstance(file.obj, BtfObject) or not btf_id:
            raise KernelError(op, Errno.EINVAL, f"attach_prog_fd {fd} is no program and no BTF")
        if not file.obj.kernel_btf:
            raise KernelError(op, Errno.ENOTSUPP, f"attach_btf_obj_fd {fd} is not the kernel's")
        return None

    def _released(self, prog: Prog) -> None:
        if prog.id:
            self.kernel.audit.prog_unloaded(prog.id)
        self.kernel.progs.remove(prog)
        self.kernel.mem.free(prog.image_addr)
        if isinstance(prog.btf_fd_obj, BtfObject):
            prog.btf_fd_obj.put()

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
        """BPF_PROG_TEST_RUN: run a program on made-up input."""
        # whose results are in this package
        from ebpfsim.test_run.run import test_run

        prog = self._prog("prog_test_run", fd)
        attr = TestRunAttr(data_in, ctx_in, data_size_out, repeat, flags, cpu, batch_size)
        return test_run(self.kernel, prog, attr, stats_enabled=self.stats_enabled)

    def prog_bind_map(self, prog_fd: int, map_fd: int, *, flags: int = 0) -> None:
        """BPF_PROG_BIND_MAP: let a program keep a map that it does not use."""
        op = "prog_bind_map"
        if flags:
            raise KernelError(op, Errno.EINVAL, f"flags {flags:#x}")
        prog, map_ = self._prog(op, prog_fd), self._map(op, map_fd)
        if map_ not in prog.maps:
            map_.get()
            prog.maps = (*prog.maps, map_)

    def enable_stats(self, kind: int) -> int:
        """BPF_ENABLE_STATS: return a descriptor; run statistics are kept until it is closed."""
        if kind != BPF_STATS_RUN_TIME:
            raise KernelError("enable_stats", Errno.EINVAL, f"type {kind}")
        return self.kernel.fds.install(StatsFile(self))
