"""BPF_BTF_LOAD and the objects that BTF descriptors stand for (kernel/bpf/btf.c, v6.18)."""

from collections.abc import Callable

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Func, FuncProto, Kind
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError, KernelError
from ebpfsim.maps.record import check_objects
from ebpfsim.objects import KernelObject
from ebpfsim.syscall.common import Calls

__all__ = ["BtfCalls", "BtfObject", "BtfUsers"]

BTF_MAX_SIZE = 16 << 20  # include/linux/btf.h
BTF_MAGIC = b"\x9f\xeb"
BTF_VERSION_AND_FLAGS = b"\1\0"
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
        """Check and keep a BTF blob; EINVAL when it is malformed."""
        op = "btf_load"
        if log_level & ~BPF_LOG_MASK:
            raise KernelError(op, Errno.EINVAL, f"log_level {log_level:#x}")
        if len(data) > BTF_MAX_SIZE:
            raise KernelError(op, Errno.E2BIG, f"{len(data)} bytes, at most {BTF_MAX_SIZE}")
        if data[:2] == BTF_MAGIC and len(data) >= 8 and data[2:4] != BTF_VERSION_AND_FLAGS:
            raise KernelError(op, Errno.ENOTSUPP, f"version {data[2]}, flags {data[3]:#x}")
        try:
            btf = Btf(data)
            btf.validate()
        except BtfError as error:
            raise KernelError(op, Errno.EINVAL, f"{error.where}: {error.problem}") from None
        if _has_unnamed_argument(btf):
            raise KernelError(op, Errno.EINVAL, "an argument of a function has no name")
        errno = check_objects(btf)
        if errno:
            raise KernelError(op, errno, "a struct has special fields that do not go together")
        obj = BtfObject(lambda: btf)
        self.kernel.btfs.add(obj)
        obj.released = self.kernel.btfs.remove
        return self.kernel.fds.install(obj)


def _has_unnamed_argument(btf: Btf) -> bool:
    # btf_func_check: prototypes may leave names out, functions may not
    for type_id in btf.ids_of_kind(Kind.FUNC):
        func = btf.type(type_id)
        assert isinstance(func, Func)
        proto = btf.type(func.type_id)
        if isinstance(proto, FuncProto) and any(param.type_id and not param.name for param in proto.params):
            return True
    return False
