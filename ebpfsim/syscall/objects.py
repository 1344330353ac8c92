"""Ids, information records, pins and descriptors (kernel/bpf/syscall.c, v6.18)."""

from collections.abc import Mapping
from typing import TypeVar, cast

from ebpfsim.bpffs import BpfFs
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.maps.map import Map
from ebpfsim.objects import IdTable, KernelObject
from ebpfsim.prog_dump import function_tags, xlated_dump
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.btf import BtfObject
from ebpfsim.syscall.common import Calls
from ebpfsim.syscall.kernel import BpfKernel, BpfLink
from ebpfsim.syscall.results import BtfInfo, Info, LinkInfo, MapInfo, ProgInfo
from ebpfsim.uapi.flags import BPF_F_RDONLY, BPF_F_WRONLY

__all__ = ["ObjectCalls"]

INT_MAX = (1 << 31) - 1
FUNC_INFO_REC_SIZE = 8  # sizeof(struct bpf_func_info)
LINE_INFO_REC_SIZE = 16  # sizeof(struct bpf_line_info)
VMLINUX_BTF_ID = 1  # the kernel's own BTF is the first one

ObjectT = TypeVar("ObjectT", bound=KernelObject)


class ObjectCalls(Calls):
    """BPF_*_GET_NEXT_ID, BPF_*_GET_FD_BY_ID, BPF_OBJ_*; close(2)."""

    def __init__(self, kernel: BpfKernel) -> None:
        super().__init__(kernel)
        self.bpffs = BpfFs()

    # ---- ids ----------------------------------------------------------------------------------------------------

    def prog_get_next_id(self, start_id: int) -> int:
        """Return the lowest program id above ``start_id``; ENOENT when there is none."""
        return _next_id("prog_get_next_id", self.kernel.progs, start_id)

    def map_get_next_id(self, start_id: int) -> int:
        """Return the lowest map id above ``start_id``; ENOENT when there is none."""
        return _next_id("map_get_next_id", self.kernel.maps, start_id)

    def link_get_next_id(self, start_id: int) -> int:
        """Return the lowest link id above ``start_id``; ENOENT when there is none."""
        return _next_id("link_get_next_id", self.kernel.links, start_id)

    def btf_get_next_id(self, start_id: int) -> int:
        """Return the lowest BTF id above ``start_id``; ENOENT when there is none."""
        return _next_id("btf_get_next_id", self.kernel.btfs, start_id)

    def prog_get_fd_by_id(self, object_id: int) -> int:
        """Return a new descriptor of a program; ENOENT."""
        return self._open("prog_get_fd_by_id", self.kernel.progs, object_id)

    def map_get_fd_by_id(self, object_id: int, *, open_flags: int = 0) -> int:
        """Return a new descriptor of a map, BPF_F_RDONLY and BPF_F_WRONLY as wished; ENOENT."""
        return self._open("map_get_fd_by_id", self.kernel.maps, object_id, open_flags)

    def link_get_fd_by_id(self, object_id: int) -> int:
        """Return a new descriptor of a link; ENOENT."""
        return self._open("link_get_fd_by_id", self.kernel.links, object_id)

    def btf_get_fd_by_id(self, object_id: int) -> int:
        """Return a new descriptor of BTF; ENOENT."""
        return self._open("btf_get_fd_by_id", self.kernel.btfs, object_id)

    def _open(self, op: str, table: IdTable[ObjectT], object_id: int, open_flags: int = 0) -> int:
        if open_flags & ~(BPF_F_RDONLY | BPF_F_WRONLY):
            raise KernelError(op, Errno.EINVAL, f"open_flags {open_flags:#x}")
        obj = table.find(object_id)
        if obj is None:
            raise KernelError(op, Errno.ENOENT, f"id {object_id}")
        return self._install(op, obj, open_flags)

    def _install(self, op: str, obj: KernelObject, open_flags: int) -> int:
        if open_flags & BPF_F_RDONLY and open_flags & BPF_F_WRONLY:
            raise KernelError(op, Errno.EINVAL, "both BPF_F_RDONLY and BPF_F_WRONLY")
        obj.get()
        readable, writable = not open_flags & BPF_F_WRONLY, not open_flags & BPF_F_RDONLY
        return self.kernel.fds.install(obj, readable=readable, writable=writable)

    # ---- information --------------------------------------------------------------------------------------------

    def obj_get_info_by_fd(self, fd: int) -> Info:
        """Return what the kernel tells of an object; EBADFD for a descriptor that is not open."""
        op = "obj_get_info_by_fd"
        obj = self.kernel.fds.lookup(fd)
        if obj is None:
            raise KernelError(op, Errno.EBADFD, f"fd {fd} is not open")
        if isinstance(obj, Map):
            return _map_info(obj)
        if isinstance(obj, Prog):
            return _prog_info(obj)
        if isinstance(obj, BtfObject):
            raw = obj.btf.raw
            return BtfInfo(raw, len(raw), obj.id, obj.name, int(obj.kernel_btf))
        if hasattr(obj, "info"):
            return _link_info(cast(BpfLink, obj))
        raise KernelError(op, Errno.EINVAL, f"fd {fd} is a {type(obj).__name__}")

    # ---- pins ---------------------------------------------------------------------------------------------------

    def obj_pin(self, fd: int, path: str) -> None:
        """Keep a map, program or link alive under a path below /sys/fs/bpf."""
        self.bpffs.pin(path, self._pinnable(fd))

    def _pinnable(self, fd: int) -> KernelObject:
        obj = self.kernel.fds.lookup(fd)
        if obj is None or not (isinstance(obj, Map | Prog) or hasattr(obj, "detach")):
            raise KernelError("obj_pin", Errno.EINVAL, f"fd {fd} is no map, program or link")
        return obj

    def obj_get(self, path: str, *, file_flags: int = 0) -> int:
        """Return a new descriptor of what is pinned at a path."""
        if file_flags & ~(BPF_F_RDONLY | BPF_F_WRONLY):
            raise KernelError("obj_get", Errno.EINVAL, f"file_flags {file_flags:#x}")
        obj = self.bpffs.get(path)
        return self._install("obj_get", obj, file_flags)

    # ---- descriptors --------------------------------------------------------------------------------------------

    def close(self, fd: int) -> None:
        """close(2): drop a descriptor and its reference."""
        self.kernel.fds.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        """read(2): what the object behind a descriptor gives, as iterators do; EINVAL for maps and programs."""
        op = "read"
        file = self.kernel.fds.file(fd)
        if file is None:
            raise KernelError(op, Errno.EBADF, f"fd {fd} is not open")
        reader = getattr(file.obj, "read", None)
        if reader is None:
            raise KernelError(op, Errno.EINVAL, f"fd {fd} is a {type(file.obj).__name__}, which cannot be read")
        data: bytes = reader(size)
        return data


def _next_id(op: str, table: IdTable[ObjectT], start_id: int) -> int:
    if start_id >= INT_MAX:
        raise KernelError(op, Errno.EINVAL, f"start_id {start_id}")
    found = table.next_id(start_id)
    if found is None:
        raise KernelError(op, Errno.ENOENT, f"no id above {start_id}")
    return found


def _map_info(map_: Map) -> MapInfo:
    btf = map_.btf
    return MapInfo(
        type=map_.type,
        id=map_.id,
        key_size=map_.key_size,
        value_size=map_.value_size,
        max_entries=map_.max_entries,
        map_flags=map_.map_flags,
        name=map_.name,
        btf_id=btf.obj.id if btf is not None else 0,
        btf_key_type_id=btf.key_type_id if btf is not None else 0,
        btf_value_type_id=btf.value_type_id if btf is not None else 0,
        btf_vmlinux_value_type_id=map_.attr.btf_vmlinux_value_type_id,
        btf_vmlinux_id=VMLINUX_BTF_ID if map_.attr.btf_vmlinux_value_type_id else 0,
        map_extra=map_.attr.map_extra,
    )


def _prog_info(prog: Prog) -> ProgInfo:
    xlated = xlated_dump(prog)
    btf = prog.btf_fd_obj
    return ProgInfo(
        type=prog.type,
        id=prog.id,
        tag=prog.tag,
        name=prog.name,
        xlated_prog_len=len(xlated),
        xlated_prog_insns=xlated,
        load_time=prog.load_time_ns,
        map_ids=tuple(map_.id for map_ in prog.maps),
        gpl_compatible=int(prog.gpl_compatible),
        btf_id=btf.id if isinstance(btf, BtfObject) else 0,
        func_info_rec_size=FUNC_INFO_REC_SIZE,
        func_info=(prog.shown or prog).func_info,
        line_info_rec_size=LINE_INFO_REC_SIZE,
        line_info=(prog.shown or prog).line_info,
        prog_tags=function_tags(prog),
        run_time_ns=prog.stats.run_time_ns,
        run_cnt=prog.stats.run_cnt,
        recursion_misses=prog.stats.recursion_misses,
        verified_insns=prog.verified_insns,
    )


def _link_info(link: BpfLink) -> LinkInfo:
    details: Mapping[str, object] = link.info()
    kind, link_id, prog_id = (details[name] for name in ("type", "id", "prog_id"))
    assert isinstance(kind, int)
    assert isinstance(link_id, int)
    assert isinstance(prog_id, int)
    return LinkInfo(kind, link_id, prog_id, details)
