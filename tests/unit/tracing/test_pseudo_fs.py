"""File systems without paths: names, mounts and how long inodes live (fs/libfs.c)."""

from ebpfsim.btf.view import place
from ebpfsim.memory import Memory
from tracing.pseudo_fs import PseudoFs
from tracing.vfs import File, Inode, Vfs

MAGIC = 0x1234


def test_a_file_has_name_mount_and_super_block() -> None:
    vfs = Vfs(Memory())
    pseudo, mem = PseudoFs(vfs, "testfs", MAGIC), vfs.mem
    inode, file = Inode.alloc(mem), File(mem, lambda _file: None)
    pseudo.add_inode(inode, 0o140777, 5, 6)
    pseudo.opened(file, inode, "UDP")
    dentry = file.dentry
    assert dentry is not None
    assert mem.read(dentry.d_name_name, 4) == b"UDP\0"
    assert (dentry.d_name_len, dentry.d_parent, dentry.d_inode) == (3, dentry.address, inode.address)
    assert mem.load(file.struct.f_path_mnt + place("vfsmount", "mnt_sb")[0], 8) == pseudo.sb == dentry.d_sb
    assert mem.load(pseudo.sb + place("super_block", "s_magic")[0], 8) == MAGIC
    fs_type = mem.load(pseudo.sb + place("super_block", "s_type")[0], 8)
    assert mem.read(mem.load(fs_type, 8), 7) == b"testfs\0"


def test_an_inode_goes_with_its_file() -> None:
    vfs = Vfs(Memory())
    pseudo = PseudoFs(vfs, "testfs", MAGIC)
    inode, file = Inode.alloc(vfs.mem), File(vfs.mem, lambda _file: None)
    pseudo.add_inode(inode, 0o140777, 0, 0)
    pseudo.opened(file, inode, "")
    assert inode.address in vfs.by_address
    vfs.closed(file)
    assert inode.address not in vfs.by_address


def test_an_inode_that_was_no_file_is_dropped() -> None:
    vfs = Vfs(Memory())
    pseudo, inode = PseudoFs(vfs, "testfs", MAGIC), Inode.alloc(vfs.mem)
    pseudo.add_inode(inode, 0o140777, 0, 0)
    pseudo.drop_inode(inode)
    assert inode.address not in vfs.by_address
