"""Sockets as files: their structures point to each other as on Linux, and go together (net/socket.c)."""

import pytest

from ebpfsim.btf.view import place
from ebpfsim.memory import Memory
from netstack.sockfs import Sockfs
from tracing.vfs import File, Vfs

# include/uapi/linux/magic.h, include/uapi/linux/stat.h
SOCKFS_MAGIC, S_IFSOCK = 0x534F434B, 0o140000


@pytest.fixture
def vfs() -> Vfs:
    return Vfs(Memory())


def test_the_inode_lies_beside_the_socket(vfs: Vfs) -> None:
    # struct socket_alloc: SOCK_INODE() and SOCKET_I() go from one to the other
    socket = Sockfs(vfs, {}).new(1000, 100)
    inode = socket.inode
    assert inode.address - socket.address == place("socket_alloc", "vfs_inode")[0]
    assert (inode.i_mode, inode.i_uid, inode.i_gid, inode.i_nlink) == (S_IFSOCK | 0o777, 1000, 100, 1)
    assert vfs.mem.load(inode.i_sb + place("super_block", "s_magic")[0], 8) == SOCKFS_MAGIC


def test_every_socket_has_an_inode_of_its_own(vfs: Vfs) -> None:
    sockfs = Sockfs(vfs, {})
    assert [sockfs.new(0, 0).inode.i_ino for _ in range(3)] == [1, 2, 3]


def test_a_socket_is_found_until_it_is_forgotten(vfs: Vfs) -> None:
    sockfs = Sockfs(vfs, {})
    socket = sockfs.new(0, 0)
    file = File(vfs.mem, lambda _file: None)
    assert sockfs.of_file(file) is None
    file.struct.private_data = socket.address
    assert sockfs.of_file(file) is sockfs.at(socket.address) is socket
    sockfs.forget(socket)
    assert sockfs.of_file(file) is None
    # the inode of a socket without a file goes at once
    assert socket.inode.address not in vfs.by_address
