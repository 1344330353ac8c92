"""Files in RAM: what programs walk to is where the BTF of Linux 6.18 has it."""

import pytest

from ebpfsim.btf.view import place
from ebpfsim.memory import Memory
from tracing.vfs import S_IFDIR, S_IFREG, File, Vfs


@pytest.fixture
def mem() -> Memory:
    return Memory()


@pytest.fixture
def vfs(mem: Memory) -> Vfs:
    return Vfs(mem)


def pointer(mem: Memory, address: int, struct: str, member: str) -> int:
    return mem.load(address + place(struct, member)[0], 8)


def name_of(mem: Memory, dentry: int) -> bytes:
    return mem.read_string(pointer(mem, dentry, "dentry", "d_name.name"), 256)


def test_programs_walk_up_to_the_root(mem: Memory, vfs: Vfs) -> None:
    dentry = vfs.add("/srv/data/records.db", b"12345", uid=33)
    file = File(mem, lambda file: None)
    vfs.opened(file, dentry)
    at, names = pointer(mem, file.address, "file", "f_path.dentry"), []
    for _ in range(4):
        names.append(name_of(mem, at))
        at = pointer(mem, at, "dentry", "d_parent")
    assert names == [b"records.db", b"data", b"srv", b"/"]
    assert pointer(mem, at, "dentry", "d_parent") == at
    inode = pointer(mem, file.address, "file", "f_inode")
    assert mem.load(inode + place("inode", "i_size")[0], 8) == 5
    assert mem.load(inode + place("inode", "i_uid.val")[0], 4) == 33
    sb = pointer(mem, inode, "inode", "i_sb")
    assert pointer(mem, sb, "super_block", "s_magic") == 0x65735546  # FUSE_SUPER_MAGIC, include/uapi/linux/magic.h
    assert (
        mem.read_string(pointer(mem, pointer(mem, sb, "super_block", "s_type"), "file_system_type", "name"), 16)
        == b"virtiofs"
    )
    assert dentry.path == "/srv/data/records.db"


def test_long_names_lie_elsewhere(mem: Memory, vfs: Vfs) -> None:
    long = vfs.add("tmp/" + "n" * 60)
    inline = pointer(mem, long.address, "dentry", "d_name.name") == long.member_address("d_shortname")
    assert not inline
    assert name_of(mem, long.address) == b"n" * 60
    vfs.move(long, vfs.root, "short")
    assert pointer(mem, long.address, "dentry", "d_name.name") == long.member_address("d_shortname")
    assert vfs.lookup("/short") is long


def test_links_count(vfs: Vfs) -> None:
    # stat(2) of Linux: a directory has 2 links and one more for each directory in it, a file one for each name
    root = vfs.root.inode
    assert root is not None
    before = root.i_nlink
    top = vfs.create(vfs.root, "top", S_IFDIR | 0o755, 0, 0)
    assert (root.i_nlink, top.inode.i_nlink if top.inode else 0) == (before + 1, 2)
    one = vfs.create(top, "one", S_IFREG | 0o644, 0, 0, b"x")
    assert one.inode is not None
    vfs.link(top, "two", one.inode)
    assert one.inode.i_nlink == 2
    vfs.remove(one)
    assert one.inode.i_nlink == 1
    assert vfs.lookup("/top/two").inode is one.inode


def test_removed_files_live_until_they_are_closed(mem: Memory, vfs: Vfs) -> None:
    before = mem.allocated_bytes
    dentry = vfs.add("tmp/" + "x" * 50, b"data")
    inode = dentry.inode
    assert inode is not None
    file = File(mem, vfs.closed)
    vfs.opened(file, dentry)
    vfs.remove(dentry)
    assert inode.i_nlink == 0
    assert bytes(inode.data) == b"data"
    assert name_of(mem, dentry.address) == b"x" * 50
    file.put()
    file.struct.free()
    assert mem.allocated_bytes == before


def test_the_first_tree(vfs: Vfs) -> None:
    paths = [dentry.path for dentry in vfs.walk()]
    assert {"/etc/passwd", "/tmp", "/bin/sh", "/dev/null"} <= set(paths)
    tmp = vfs.lookup("tmp").inode
    assert tmp is not None
    assert tmp.i_mode == 0o041777


def test_what_is_there_is_changed(vfs: Vfs) -> None:
    shell = vfs.lookup("/bin/sh").inode
    assert shell is not None
    assert shell.i_mode == S_IFREG | 0o755
    vfs.add("/bin/sh", b"other", uid=7)
    assert (shell.i_mode, shell.i_uid, bytes(shell.data)) == (S_IFREG | 0o755, 7, b"other")
    vfs.add("/bin/sh", mode=0o600)
    assert shell.i_mode == S_IFREG | 0o600
    vfs.add("/bin/", mode=0o700)
    assert vfs.lookup("/bin").inode.i_mode == S_IFDIR | 0o700  # type: ignore[union-attr]
