"""File systems without paths, whose files are sockets and the like (fs/libfs.c, fs/file_table.c, v6.18)."""

from ebpfsim.btf.view import place, size_of
from tracing.vfs import Dentry, File, Inode, Vfs, kmalloc_text

__all__ = ["PseudoFs"]


class PseudoFs:
    """A mount that nobody can reach by a path; ``magic`` is what its superblock is known by."""

    def __init__(self, vfs: Vfs, name: str, magic: int) -> None:
        self._vfs = vfs
        self._next_ino = 1
        mem = self.mem = vfs.mem
        self.sb = mem.alloc(size_of("super_block"), what="struct super_block")
        fs_type = mem.alloc(size_of("file_system_type"), what="struct file_system_type")
        mem.store(fs_type + place("file_system_type", "name")[0], 8, kmalloc_text(mem, name.encode()))
        self._set("super_block", self.sb, "s_magic", magic)
        self._set("super_block", self.sb, "s_type", fs_type)
        mount = mem.alloc(size_of("mount"), what="struct mount")
        self.vfsmount = mount + place("mount", "mnt")[0]
        self._set("mount", mount, "mnt.mnt_sb", self.sb)

    def add_inode(self, inode: Inode, mode: int, uid: int, gid: int) -> None:
        """Fill in the inode of a new file, which its maker has allocated."""
        inode.data, inode.opens = bytearray(), 0
        inode.i_mode, inode.i_uid, inode.i_gid, inode.i_nlink = mode, uid, gid, 1
        inode.i_ino, inode.i_sb = self._next_ino, self.sb
        self._next_ino += 1
        self._vfs.by_address[inode.address] = inode

    def opened(self, file: File, inode: Inode, name: str) -> None:
        """Let an open file be that inode, under a name in no directory (``alloc_path_pseudo``)."""
        dentry = Dentry.alloc(self.mem)
        dentry.children, dentry.inode, dentry.long_name, dentry.opens = {}, inode, 0, 0
        dentry.name, dentry.parent = name, dentry
        dentry.d_parent, dentry.d_inode, dentry.d_sb = dentry.address, inode.address, self.sb
        dentry.d_name_name, dentry.d_name_len = dentry.member_address("d_shortname"), len(name)
        self.mem.write(dentry.d_name_name, name.encode() + b"\0")
        self._vfs.opened(file, dentry)
        file.struct.f_path_mnt = self.vfsmount

    def evict(self, inode: Inode) -> None:
        """Let an inode go with its last open file: nothing else names it."""
        inode.i_nlink = 0

    def drop_inode(self, inode: Inode) -> None:
        """Let an inode go that no file has ever been."""
        del self._vfs.by_address[inode.address]
        inode.free()

    def _set(self, struct: str, address: int, member: str, value: int) -> None:
        offset, size = place(struct, member)
        self.mem.store(address + offset, size, value)
