"""BPF_BTF_LOAD and the objects that BTF descriptors stand for (kernel/bpf/btf.c, v6.18)."""

from collections.abc import Callable

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.check import check_btf
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.maps.record import check_objects
from ebpfsim.objects import KernelObject
from ebpfsim.syscall.common import Calls

__all__ = ["BtfCalls", "BtfObject", "BtfUsers"]

BTF_MAX_SIZE = 16 << 20  # include/linux/btf.h
BPF_LOG_MASK = 0xF  # BPF_LOG_LEVEL, BPF_LOG_STATS, BPF_LOG_FIXED


class BtfObject(KernelObject):
    """BTF in the kernel (``struct btf``): loaded by user space, or the kernel's own, which is parsed when needed."""

    def __init__(self, load: Callable[[], Btf], *, name: str = "", kernel_btf: bool = False) -> None:
        super().__init__()
        self._load = load
        self._btf: Btf | None = None
        self.name = name
        self.kernel_btf = kernel_btf
        self.released: Callable[[BtfObject], None] | None = None

    @property
    def btf(self) -> Btf:
        """The types."""
        if self._btf is None:
            self._btf = self._load()
        return self._btf

    def on_release(self) -> None:
        """Give up the id."""
        if self.released is not None:
            self.released(self)


class BtfUsers(Calls):
    """Commands that take BTF of user space by descriptor."""

    def _user_btf(self, op: str, fd: int) -> BtfObject:
        # EBADF, EINVAL for something else, EACCES for the kernel's own
        btf = self._file(op, fd, BtfObject)[0]
        if btf.kernel_btf:
            raise KernelError(op, Errno.EACCES, f"fd {fd} is the kernel's own BTF")
        return btf


class BtfCalls(Calls):
    """BPF_BTF_LOAD."""

    def btf_load(self, data: bytes, *, log_level: int = 0) -> int:
        """Check and keep a BTF blob; VerifierError with the kernel's log when it is malformed."""
        op = "btf_load"
        if log_level & ~BPF_LOG_MASK:
            raise KernelError(op, Errno.EINVAL, f"log_level {log_level:#x}")
        if len(data) > BTF_MAX_SIZE:
            raise KernelError(op, Errno.E2BIG, f"{len(data)} bytes, at most {BTF_MAX_SIZE}")
        errno = check_btf(data, wants_log=False).errno
        if errno is None:
            btf = Btf(data)
            # special fields that do not go together: the log says nothing of them
            refused = check_objects(btf)
            errno = Errno(refused) if refused else None
        if errno is not None:
            raise VerifierError(op, errno, check_btf(data, wants_log=True).log)
        obj = BtfObject(lambda: btf)
        self.kernel.btfs.add(obj)
        obj.released = self.kernel.btfs.remove
        return self.kernel.fds.install(obj)
