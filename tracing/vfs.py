"""Files of a simulated kernel: inodes, dentries, mounts and open files at their BTF layout (include/linux/fs.h, v6.18).

One file system in memory (tmpfs) is mounted at ``/`` and holds a small tree; ``Vfs.add`` puts further files into it.
Programs that walk ``file->f_path.dentry->d_parent`` or read ``inode->i_ino`` find what they would on Linux.

Left out: other file systems, block devices, the page cache, locks on files, access control lists.
"""

from collections.abc import Callable, Iterator

from ebpfsim.btf.view import Field, KernelStruct, place, size_of
from ebpfsim.memory import Memory
from ebpfsim.objects import KernelObject

__all__ = ["Dentry", "File", "Inode", "Vfs", "kmalloc_text"]

# include/uapi/linux/stat.h
S_IFMT, S_IFDIR, S_IFREG, S_IFLNK, S_IFCHR, S_IFIFO, S_IFSOCK = (
    0o170000, 0o040000, 0o100000, 0o120000, 0o020000, 0o010000, 0o140000,
)  # fmt: skip
TMPFS_MAGIC = 0x0102_1994
DEV_MINOR_BITS = 20  # dev_t in the kernel is major << 20 | minor
DNAME_INLINE_LEN = 40  # sizeof(union shortname_store)
FIRST_INO = 1

# what every system has; directories end in a slash
INITIAL_TREE = {
    "bin/sh": b"\x7fELF", "dev/null": b"", "etc/hostname": b"host\n", "etc/hosts": b"127.0.0.1 localhost\n",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "home/": b"", "proc/": b"", "root/": b"",
    "sbin/init": b"\x7fELF", "sys/fs/bpf/": b"", "sys/fs/cgroup/": b"", "usr/bin/": b"", "var/log/": b"",
}  # fmt: skip

MODES = {"bin/sh": 0o755, "sbin/init": 0o755, "dev/null": 0o666}


def kmalloc_text(mem: Memory, text: bytes) -> int:
    """Return the address of a copy of a string, with its NUL."""
    address = mem.alloc(len(text) + 1)
    mem.write(address, text + b"\0")
    return address


class _SuperBlock(KernelStruct):
    struct_name = "super_block"
    s_dev = Field()
    s_blocksize = Field()
    s_type = Field()
    s_magic = Field()
    s_root = Field()


class _Mount(KernelStruct):
    struct_name = "mount"
    parent = Field("mnt_parent")
    mountpoint = Field("mnt_mountpoint")
    root = Field("mnt.mnt_root")
    sb = Field("mnt.mnt_sb")
    mnt_id = Field()


class Inode(KernelStruct):
    """``struct inode``, and the bytes of a file. ``data`` is what it holds, for a link the path that it names."""

    __slots__ = ("data", "opens")
    struct_name = "inode"
    i_mode = Field()
    i_uid = Field("i_uid.val")
    i_gid = Field("i_gid.val")
    i_sb = Field()
    i_ino = Field()
    i_nlink = Field()
    i_rdev = Field()
    i_size = Field()
    i_mtime_sec = Field()
    i_mtime_nsec = Field()

    data: bytearray
    opens: int

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.i_mode & S_IFMT == S_IFDIR

    @property
    def is_socket(self) -> bool:
        """Whether it is a socket."""
        return self.i_mode & S_IFMT == S_IFSOCK

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.i_mode & S_IFMT == S_IFLNK


class Dentry(KernelStruct):
    """``struct dentry``: a name in a directory. ``children`` are in the order in which they came.

    ``opens`` counts the open files that point to it, which may outlive the name.
    """

    __slots__ = ("children", "inode", "long_name", "name", "opens", "parent")
    struct_name = "dentry"
    d_parent = Field()
    d_name_len = Field("d_name.len")
    d_name_name = Field("d_name.name")
    d_inode = Field()
    d_sb = Field()

    name: str
    inode: Inode | None
    parent: "Dentry"
    children: "dict[str, Dentry]"
    long_name: int
    opens: int

    @property
    def path(self) -> str:
        """The path from the root."""
        names: list[str] = []
        dentry = self
        while dentry.parent is not dentry:
            names.append(dentry.name)
            dentry = dentry.parent
        return "/" + "/".join(reversed(names))


class File(KernelObject):
    """An open file: ``struct file`` at ``address``. ``on_fput`` is called when its last descriptor has gone."""

    class Struct(KernelStruct):
        """``struct file``."""

        struct_name = "file"
        f_mode = Field()
        private_data = Field()
        f_inode = Field()
        f_flags = Field()
        f_cred = Field()
        f_path_mnt = Field("f_path.mnt")
        f_path_dentry = Field("f_path.dentry")
        f_pos = Field()

    def __init__(self, mem: Memory, on_fput: Callable[["File"], None]) -> None:
        super().__init__()
        self.struct = self.Struct.alloc(mem)
        self.address = self.struct.address
        self.dentry: Dentry | None = None
        # the name of what f_op->release points to
        self.release = ""
        self.on_fput = on_fput

    @property
    def inode(self) -> Inode | None:
        """The inode, once the file is open."""
        return self.dentry.inode if self.dentry is not None else None

    @property
    def storage_owner(self) -> int:
        """What values of maps belong to: the address of ``struct inode``."""
        return self.inode.address if self.inode is not None else 0

    def on_release(self) -> None:
        """Let the file go (__fput)."""
        self.on_fput(self)


class Vfs:
    """The tree of files. ``by_address`` finds dentries, inodes and open files by where their structures are."""

    def __init__(self, mem: Memory) -> None:
        self.mem = mem
        self.by_address: dict[int, Dentry | Inode | File] = {}
        # called with an inode that goes
        self.on_evict: Callable[[Inode], None] = lambda inode: None
        self._next_ino = FIRST_INO
        self._sb = _SuperBlock.alloc(mem)
        self._sb.s_dev = 1  # 0:1
        self._sb.s_blocksize = 4096
        self._sb.s_magic = TMPFS_MAGIC
        fs_type = mem.alloc(size_of("file_system_type"))
        mem.store(fs_type + place("file_system_type", "name")[0], 8, kmalloc_text(mem, b"tmpfs"))
        self._sb.s_type = fs_type
        self.root = self._dentry("/", None)
        self._instantiate(self.root, S_IFDIR | 0o755, 0, 0)
        self._sb.s_root = self.root.address
        self._mount = _Mount.alloc(mem)
        self._mount.parent = self._mount.address
        self._mount.mountpoint = self._mount.root = self.root.address
        self._mount.sb = self._sb.address
        self._mount.mnt_id = 1
        for path, data in INITIAL_TREE.items():
            self.add(path, data, mode=MODES.get(path))
        self.add("tmp/", mode=0o1777)

    @property
    def vfsmount(self) -> int:
        """The address of the root's ``struct vfsmount``."""
        return self._mount.member_address("mnt")

    def add(self, path: str, data: bytes = b"", *, mode: int | None = None, uid: int = 0, gid: int = 0) -> Dentry:
        """Put a file into the tree, with the directories above it; a path that ends in a slash is a directory.

        What is there already is changed; it keeps its permissions unless told.
        """
        dentry = self.root
        names = [name for name in path.split("/") if name]
        for position, name in enumerate(names):
            child = dentry.children.get(name)
            if child is None:
                child = self._dentry(name, dentry)
                is_dir = path.endswith("/") or position < len(names) - 1
                kind = S_IFDIR | 0o755 if is_dir else S_IFREG | 0o644
                own = position == len(names) - 1
                permissions = kind & S_IFMT | mode if own and mode is not None else kind
                self._instantiate(child, permissions, uid if own else 0, gid if own else 0)
            elif position == len(names) - 1 and child.inode is not None:
                child.inode.i_uid, child.inode.i_gid = uid, gid
                if mode is not None:
                    child.inode.i_mode = child.inode.i_mode & S_IFMT | mode
            dentry = child
        if dentry.inode is not None and not dentry.inode.is_dir:
            self.set_data(dentry.inode, data)
        return dentry

    def lookup(self, path: str) -> "Dentry":
        """Return the dentry of a path that exists; KeyError."""
        dentry = self.root
        for name in path.split("/"):
            if name:
                dentry = dentry.children[name]
        return dentry

    def walk(self) -> Iterator[Dentry]:
        """Return all dentries, directories before what is in them."""
        waiting = [self.root]
        while waiting:
            dentry = waiting.pop(0)
            yield dentry
            waiting = [*dentry.children.values(), *waiting]

    def create(self, parent: Dentry, name: str, mode: int, uid: int, gid: int, data: bytes = b"") -> Dentry:
        """Make a file or directory in a directory."""
        dentry = self._dentry(name, parent)
        inode = self._instantiate(dentry, mode, uid, gid)
        if data:
            self.set_data(inode, data)
        return dentry

    def link(self, parent: Dentry, name: str, inode: Inode) -> Dentry:
        """Give an inode one more name."""
        dentry = self._dentry(name, parent)
        inode.i_nlink += 1
        dentry.inode = inode
        dentry.d_inode = inode.address
        return dentry

    def remove(self, dentry: Dentry) -> None:
        """Take a name out of its directory; the inode goes with its last name and its last open file."""
        del dentry.parent.children[dentry.name]
        inode = dentry.inode
        assert inode is not None
        if inode.is_dir:
            inode.i_nlink = 0
            parent = dentry.parent.inode
            assert parent is not None
            parent.i_nlink -= 1
        else:
            inode.i_nlink -= 1
        del self.by_address[dentry.address]
        self._dput(dentry)
        self._iput(inode)

    def move(self, dentry: Dentry, parent: Dentry, name: str) -> None:
        """Give a dentry another directory and name."""
        del dentry.parent.children[dentry.name]
        dentry.parent = parent
        dentry.d_parent = parent.address
        self._name(dentry, name)
        parent.children[name] = dentry

    def opened(self, file: File, dentry: Dentry) -> None:
        """Let an open file point to a name and its inode."""
        inode = dentry.inode
        assert inode is not None
        file.dentry = dentry
        self.hold(dentry)
        struct = file.struct
        struct.f_path_dentry, struct.f_path_mnt, struct.f_inode = dentry.address, self.vfsmount, inode.address

    def closed(self, file: File) -> None:
        """Let go what an open file pointed to."""
        if file.dentry is not None:
            self.unhold(file.dentry)

    def hold(self, dentry: Dentry) -> None:
        """Keep a name and its inode, whatever becomes of them in the tree (path_get)."""
        assert dentry.inode is not None
        dentry.opens += 1
        dentry.inode.opens += 1

    def unhold(self, dentry: Dentry) -> None:
        """Let go of a name and its inode (path_put)."""
        if dentry.inode is not None:
            dentry.opens -= 1
            dentry.inode.opens -= 1
            self._dput(dentry)
            self._iput(dentry.inode)

    def forget(self, file: File) -> None:
        """Free the structure of a file that is closed."""
        del self.by_address[file.address]
        file.struct.free()

    def _dput(self, dentry: Dentry) -> None:
        # a name that was removed goes with the last file that points to it
        if dentry.address not in self.by_address and not dentry.opens:
            if dentry.long_name:
                self.mem.free(dentry.long_name)
            dentry.free()

    def _iput(self, inode: Inode) -> None:
        if inode.i_nlink == 0 and not inode.opens and inode.address in self.by_address:
            del self.by_address[inode.address]
            self.on_evict(inode)
            inode.free()

    def set_data(self, inode: Inode, data: bytes | bytearray) -> None:
        """Replace what a file holds."""
        inode.data = bytearray(data)
        inode.i_size = len(data)

    def _dentry(self, name: str, parent: Dentry | None) -> Dentry:
        dentry = Dentry.alloc(self.mem)
        dentry.children, dentry.inode, dentry.long_name, dentry.opens = {}, None, 0, 0
        dentry.parent = parent or dentry
        dentry.d_parent = dentry.parent.address
        dentry.d_sb = self._sb.address
        self._name(dentry, name)
        if parent is not None:
            parent.children[name] = dentry
        self.by_address[dentry.address] = dentry
        return dentry

    def _name(self, dentry: Dentry, name: str) -> None:
        text = name.encode(errors="surrogateescape")
        if dentry.long_name:
            self.mem.free(dentry.long_name)
            dentry.long_name = 0
        if len(text) < DNAME_INLINE_LEN:
            address = dentry.member_address("d_shortname")
            self.mem.write(address, text.ljust(DNAME_INLINE_LEN, b"\0"))
        else:
            address = dentry.long_name = kmalloc_text(self.mem, text)
        dentry.name = name
        dentry.d_name_name, dentry.d_name_len = address, len(text)

    def _instantiate(self, dentry: Dentry, mode: int, uid: int, gid: int) -> Inode:
        inode = Inode.alloc(self.mem)
        inode.data, inode.opens = bytearray(), 0
        inode.i_mode, inode.i_uid, inode.i_gid = mode, uid, gid
        inode.i_ino, inode.i_sb, inode.i_nlink = self._next_ino, self._sb.address, 1
        self._next_ino += 1
        if mode & S_IFMT == S_IFDIR:
            inode.i_nlink = 2
            if dentry.parent is not dentry and dentry.parent.inode is not None:
                dentry.parent.inode.i_nlink += 1
        dentry.inode = inode
        dentry.d_inode = inode.address
        self.by_address[inode.address] = inode
        return inode
