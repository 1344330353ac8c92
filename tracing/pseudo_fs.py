"""File systems without paths, whose files are sockets and the like (fs/libfs.c, fs/file_table.c, v6.18)."""

from collections.abc import Mapping

from ebpfsim.btf.view import place
from tracing.filesystems import FsType, Mount, SuperBlock
from tracing.vfs import Dentry, File, Inode, Vfs

__all__ = ["AnonInodes", "PseudoFs", "anon_inodes"]

ANON_INODE_FS_MAGIC = 0x0904_1934  # include/uapi/linux/magic.h


class PseudoFs:
    """A mount that nobody can reach by a path; ``magic`` is what its superblock is known by."""

    def __init__(self, vfs: Vfs, name: str, magic: int, ops: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._vfs = vfs
        self.mem = vfs.mem
        self.super = SuperBlock.make(vfs.mem, FsType(name, magic, ops or {}), 0)
        self.sb = self.super.address
        vfs.supers[self.sb] = self.super
        self.super.root = vfs.d_alloc(None, "/", self.super)
        self.super.mount = Mount.make(vfs.mem, self.super, 0, None, None, name)
        self.vfsmount = self.super.mount.vfsmount
        vfs.pseudo[self.vfsmount] = self

    def new_inode(self, mode: int, uid: int, gid: int) -> Inode:
        """Return the inode of a new file."""
        return self._vfs.new_inode(self.super, mode, uid, gid)

    def add_inode(self, inode: Inode, mode: int, uid: int, gid: int) -> None:
        """Fill in the inode of a new file, which its maker has allocated."""
        self._vfs.init_inode(inode, self.super, mode, uid, gid)

    def d_alloc(self, name: str) -> Dentry:
        """Return a name that is in no directory (``d_alloc_pseudo``)."""
        return self._vfs.d_alloc(None, name, self.super)

    def opened(self, file: File, inode: Inode, name: str) -> None:
        """Let an open file be that inode, under a name in no directory (``alloc_path_pseudo``)."""
        dentry = self.d_alloc(name)
        dentry.inode, dentry.d_inode = inode, inode.address
        inode.opens += 1
        self._vfs.opened(file, dentry)

    def drop_inode(self, inode: Inode) -> None:
        """Let an inode go that no file has ever been."""
        self._vfs.free_inode(inode)

    def _set(self, struct: str, address: int, member: str, value: int) -> None:
        offset, size = place(struct, member)
        self.mem.store(address + offset, size, value)


S_PRIVATE = 1 << 9  # include/linux/fs.h: security modules are not asked about it


def anon_inodes(vfs: Vfs) -> tuple[PseudoFs, Inode]:
    """Return the file system of files that are nothing but what is behind them, and the one inode that all have."""
    for fs in vfs.pseudo.values():
        if fs.name == "anon_inodefs":
            return fs, fs.inode
    made = AnonInodes(vfs)
    return made, made.inode


class AnonInodes(PseudoFs):
    """``anon_inodefs`` (fs/anon_inodes.c)."""

    def __init__(self, vfs: Vfs) -> None:
        super().__init__(vfs, "anon_inodefs", ANON_INODE_FS_MAGIC)
        self.inode = self.new_inode(0o600, 0, 0)
        self.inode.opens = 1
        self.inode.i_flags |= S_PRIVATE
