"""File systems, their instances and where they are mounted (include/linux/fs.h, fs/mount.h, v6.18).

A file system is a row of the functions of the kernel that its operations are; what a row leaves out is done as all file
systems in memory do it, without a function of its own that anybody could watch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ebpfsim.btf.view import Field, KernelStruct, Text, place, size_of
from ebpfsim.memory import Memory

if TYPE_CHECKING:
    from tracing.vfs import Dentry, Inode

__all__ = ["FILE_SYSTEMS", "ROOT", "FsType", "Mount", "SuperBlock", "kmalloc_text"]

BLOCK_BYTES = 4096
FIRST_INO = 1


@dataclass(frozen=True, slots=True)
class FsType:
    """A file system (``struct file_system_type``); ``ops`` has its functions by the names of the operations."""

    name: str
    magic: int
    ops: Mapping[str, str] = field(default_factory=dict)
    # whether mount(2) makes instances of it
    mountable: bool = False
    # whether the kernel alone makes names and removes them
    is_fixed: bool = False


_SHMEM_OPS = {
    "create": "shmem_create", "mkdir": "shmem_mkdir", "mknod": "shmem_mknod", "symlink": "shmem_symlink",
    "link": "shmem_link", "unlink": "shmem_unlink", "rmdir": "shmem_rmdir", "rename": "shmem_rename2",
    "lookup": "simple_lookup", "permission": "generic_permission", "getattr": "shmem_getattr",
    "setattr": "shmem_setattr", "open": "shmem_file_open", "llseek": "shmem_file_llseek",
    "splice_read": "shmem_file_splice_read", "fallocate": "shmem_fallocate",
    "read_iter": "shmem_file_read_iter", "write_iter": "shmem_file_write_iter", "fsync": "noop_fsync",
    "iterate_shared": "offset_readdir", "mmap": "shmem_mmap", "get_unmapped_area": "shmem_get_unmapped_area",
    "statfs": "shmem_statfs", "alloc_inode": "shmem_alloc_inode", "evict_inode": "shmem_evict_inode",
    "destroy_inode": "shmem_destroy_inode",
}  # fmt: skip
# of the root of /proc; what is below has operations of its own
_PROC_OPS = {
    "permission": "generic_permission", "lookup": "proc_root_lookup", "iterate_shared": "proc_root_readdir",
}  # fmt: skip
# the root is one that a host shares with its virtual machine, whose functions are the host's own
ROOT = FsType("virtiofs", 0x6573_5546)
# magic numbers: include/uapi/linux/magic.h
FILE_SYSTEMS = {
    fs.name: fs
    for fs in (
        FsType("tmpfs", 0x0102_1994, _SHMEM_OPS, mountable=True),
        FsType("devtmpfs", 0x0102_1994, _SHMEM_OPS),
        FsType("ramfs", 0x8584_58F6, {"permission": "generic_permission"}, mountable=True),
        FsType("proc", 0x9FA0, _PROC_OPS, mountable=True, is_fixed=True),
        FsType("bpf", 0xCAFE_4A11, {"permission": "generic_permission", "lookup": "bpf_lookup"}, mountable=True),
        FsType("cgroup2", 0x6367_7270, mountable=True),
    )
}
# what is below /proc/sys has operations of its own
FILE_SYSTEMS["proc/sys"] = FsType(
    "proc",
    FILE_SYSTEMS["proc"].magic,
    {
        "lookup": "proc_sys_lookup", "permission": "proc_sys_permission", "iterate_shared": "proc_sys_readdir",
        "open": "proc_sys_open", "read_iter": "proc_sys_read", "write_iter": "proc_sys_write",
    },
    is_fixed=True,
)  # fmt: skip


def kmalloc_text(mem: Memory, text: bytes) -> int:
    """Return the address of a copy of a string, with its NUL."""
    address = mem.alloc(len(text) + 1)
    mem.write(address, text + b"\0")
    return address


class SuperBlock(KernelStruct):
    """``struct super_block``: one instance of a file system, with the mount that it is reached by."""

    __slots__ = ("_last_ino", "fs", "fs_type", "make_inode", "mount", "root")
    struct_name = "super_block"
    s_dev = Field()
    s_blocksize = Field()
    s_type = Field()
    s_magic = Field()
    s_root = Field()
    s_user_ns = Field()
    s_id = Text()

    fs: FsType
    fs_type: int
    _last_ino: int
    # what makes an inode that is part of something larger
    make_inode: "Callable[[], Inode] | None"
    root: "Dentry"
    mount: "Mount | None"

    @classmethod
    def make(cls, mem: Memory, fs: FsType, device: int) -> "SuperBlock":
        """Return a new instance without a root."""
        sb = cls.alloc(mem)
        sb.fs, sb.mount, sb.make_inode, sb._last_ino = fs, None, None, FIRST_INO - 1
        sb.s_dev, sb.s_blocksize, sb.s_magic, sb.s_id = device, BLOCK_BYTES, fs.magic, fs.name
        sb.fs_type = mem.alloc(size_of("file_system_type") + len(fs.name) + 1, what="struct file_system_type")
        name = sb.fs_type + size_of("file_system_type")
        mem.write(name, fs.name.encode() + b"\0")
        mem.store(sb.fs_type + place("file_system_type", "name")[0], 8, name)
        sb.s_type = sb.fs_type
        return sb

    def next_ino(self) -> int:
        """Return the number of the next inode."""
        self._last_ino += 1
        return self._last_ino

    def release(self) -> None:
        """Give the memory back, with that of the mount."""
        self.mem.free(self.fs_type)
        if self.mount is not None:
            self.mem.free(self.mount.devname)
            self.mount.free()
        self.free()


class Mount(KernelStruct):
    """``struct mount``: where a file system is reached; ``point`` is the directory under it, None at the root."""

    __slots__ = ("devname", "point", "root", "sb", "vfsmount")
    struct_name = "mount"
    mnt_parent = Field()
    mnt_mountpoint = Field()
    mnt_root = Field("mnt.mnt_root")
    mnt_sb = Field("mnt.mnt_sb")
    mnt_flags = Field("mnt.mnt_flags")
    mnt_id = Field()
    mnt_devname = Field()

    sb: SuperBlock
    root: "Dentry"
    point: "Dentry | None"
    vfsmount: int
    devname: int

    @classmethod
    def make(
        cls, mem: Memory, sb: SuperBlock, number: int, above: "Mount | None", point: "Dentry | None", source: str
    ) -> "Mount":
        """Return a new mount of a file system."""
        mount = cls.alloc(mem)
        mount.sb, mount.root, mount.point = sb, sb.root, point
        mount.vfsmount = mount.member_address("mnt")
        mount.mnt_parent = (above or mount).address
        mount.mnt_mountpoint = (point or sb.root).address
        mount.mnt_root, mount.mnt_sb, mount.mnt_id = sb.root.address, sb.address, number
        mount.devname = mount.mnt_devname = kmalloc_text(mem, source.encode())
        return mount
