"""Files of a simulated kernel: inodes, dentries, mounts and open files at their BTF layout (include/linux/fs.h, v6.18).

The root holds a small tree, on which further file systems are mounted (``tracing.filesystems``); ``Vfs.add`` puts files
into it. Programs that walk ``file->f_path.dentry->d_parent`` or read ``inode->i_ino`` find what they would on Linux.

A dentry lives while it is in the tree or somebody has it (``opens``); an inode while a name has it or somebody else.

Left out: block devices, the page cache, locks on files, access control lists.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ebpfsim.btf.view import Field, KernelStruct, place
from ebpfsim.memory import Memory
from ebpfsim.objects import KernelObject
from tracing.filesystems import FILE_SYSTEMS, ROOT, FsType, Mount, SuperBlock, kmalloc_text

__all__ = ["Dentry", "File", "Inode", "Vfs", "kmalloc_text"]

# include/uapi/linux/stat.h
S_IFMT, S_IFDIR, S_IFREG, S_IFLNK, S_IFCHR, S_IFIFO, S_IFSOCK = (
    0o170000, 0o040000, 0o100000, 0o120000, 0o020000, 0o010000, 0o140000,
)  # fmt: skip
S_IFBLK = 0o060000
DNAME_INLINE_LEN = 40  # sizeof(union shortname_store)

_I_DATA = place("inode", "i_data")[0]

# what every system has; directories end in a slash
INITIAL_TREE = {
    "bin/sh": b"\x7fELF", "bin/true": b"\x7fELF", "bin/false": b"\x7fELF", "dev/": b"",
    "etc/hostname": b"host\n", "etc/hosts": b"127.0.0.1 localhost\n",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "home/": b"", "proc/": b"", "root/": b"",
    "run/": b"", "sbin/init": b"\x7fELF", "sys/fs/bpf/": b"", "sys/fs/cgroup/": b"", "tmp/": b"", "usr/bin/": b"",
    "var/log/": b"",
}  # fmt: skip
MODES = {"bin/sh": 0o755, "bin/true": 0o755, "bin/false": 0o755, "sbin/init": 0o755}
# what is mounted where from the beginning, and with which permissions
MOUNTS = {
    "/dev": ("devtmpfs", 0o755), "/proc": ("proc", 0o555), "/run": ("tmpfs", 0o755), "/sys/fs/bpf": ("bpf", 0o1777),
    "/sys/fs/cgroup": ("cgroup2", 0o755), "/tmp": ("tmpfs", 0o1777), "/proc/sys": ("proc/sys", 0o555),
}  # fmt: skip
# character devices, with their numbers (major << 20 | minor)
DEVICES = {"/dev/full": 0x0010_0007, "/dev/null": 0x0010_0003, "/dev/zero": 0x0010_0005}


class Inode(KernelStruct):
    """``struct inode``, and the bytes of a file. ``data`` is what it holds, for a link the path that it names."""

    __slots__ = ("data", "dirty", "opens", "ops", "sb", "xattrs")
    struct_name = "inode"
    i_mode = Field()
    i_uid = Field("i_uid.val")
    i_gid = Field("i_gid.val")
    i_sb = Field()
    i_ino = Field()
    i_nlink = Field()
    i_rdev = Field()
    i_size = Field()
    i_atime_sec = Field()
    i_atime_nsec = Field()
    i_mtime_sec = Field()
    i_mtime_nsec = Field()
    i_ctime_sec = Field()
    i_ctime_nsec = Field()
    i_blocks = Field()
    i_link = Field()
    i_flags = Field()

    data: bytearray
    # whether somebody knows that it has to be written back
    dirty: bool
    opens: int
    sb: SuperBlock
    # extended attributes, once there are any
    xattrs: dict[bytes, bytes] | None
    # its functions by the names of the operations, where they are not those of the file system
    ops: Mapping[str, str] | None

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.i_mode & S_IFMT == S_IFDIR

    @property
    def is_socket(self) -> bool:
        """Whether it is a socket."""
        return self.i_mode & S_IFMT == S_IFSOCK

    @property
    def is_plain(self) -> bool:
        """Whether it is a file with contents."""
        return self.i_mode & S_IFMT == S_IFREG

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self.i_mode & S_IFMT == S_IFLNK


class Dentry(KernelStruct):
    """``struct dentry``: a name in a directory. ``children`` are in the order in which they came.

    ``opens`` counts who has it beside the tree: open files, working directories, walks. It is ``hashed`` while a lookup
    finds it; without an inode it says that there is nothing of that name. What is mounted on it is ``mounted``.
    """

    __slots__ = ("children", "hashed", "in_lookup", "inode", "long_name", "mounted", "name", "opens", "parent", "sb")
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
    hashed: bool
    # whether the file system is being asked for it
    in_lookup: bool
    sb: SuperBlock
    mounted: Mount | None

    @property
    def above(self) -> "Dentry":
        """The directory that it is in, across mounts; the root is in itself."""
        dentry = self
        while dentry.parent is dentry:
            mount = dentry.sb.mount
            if mount is None or mount.point is None:
                return dentry
            dentry = mount.point
        return dentry.parent

    @property
    def path(self) -> str:
        """The path from the root."""
        names: list[str] = []
        dentry = self
        while True:
            while dentry.parent is dentry and dentry.sb.mount is not None and dentry.sb.mount.point is not None:
                dentry = dentry.sb.mount.point
            if dentry.parent is dentry:
                return "/" + "/".join(reversed(names))
            names.append(dentry.name)
            dentry = dentry.parent

    @property
    def top(self) -> "Dentry":
        """Itself, or the root of what is mounted on it last."""
        dentry = self
        while dentry.mounted is not None:
            dentry = dentry.mounted.root
        return dentry


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
        f_mapping = Field()

    def __init__(self, mem: Memory, on_fput: Callable[["File"], None]) -> None:
        super().__init__()
        self.struct = self.Struct.alloc(mem)
        self.address = self.struct.address
        self.dentry: Dentry | None = None
        # the name of what f_op->release points to
        self.release = ""
        # the functions that f_op has, by the names of the operations, where they are not those of the file system
        self._ops: Mapping[str, str] | None = None
        # what private_data stands for
        self.private: object = None
        self.on_fput = on_fput

    @property
    def inode(self) -> Inode | None:
        """The inode, once the file is open."""
        return self.dentry.inode if self.dentry is not None else None

    @property
    def ops(self) -> Mapping[str, str]:
        """The functions that are its operations."""
        if self._ops is not None:
            return self._ops
        if self.dentry is None:
            return {}
        own = self.dentry.inode.ops if self.dentry.inode is not None else None
        return own if own is not None else self.dentry.sb.fs.ops

    @ops.setter
    def ops(self, ops: Mapping[str, str]) -> None:
        self._ops = ops

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
        self.mounts: list[Mount] = []
        self.supers: dict[int, SuperBlock] = {}
        # mounts that were taken away and not cleaned up yet
        self.leaving: dict[int, Mount] = {}
        # mounts that no path leads to, by the addresses of their ``struct vfsmount``
        self.pseudo: dict[int, Any] = {}
        # what is in pipes with a name, by the addresses of their inodes
        self.fifos: dict[int, Any] = {}
        # structures that calls have while they last, by their kinds
        self.spare: dict[type, list[Any]] = {}
        # who has locked a file as a whole (flock(2)), by the addresses of inodes
        self.flocks: dict[int, dict[File, int]] = {}
        self._next_dev = 1
        self._next_mnt_id = 1
        self.root_mount = self.new_mount(self.new_super(ROOT, 0o755), None)
        self.root = self.root_mount.root
        for path, data in INITIAL_TREE.items():
            self.add(path, data, mode=MODES.get(path))
        for path, (name, mode) in MOUNTS.items():
            self.new_mount(self.new_super(FILE_SYSTEMS[name], mode), self.add(f"{path}/"))
        for path, number in DEVICES.items():
            device = self.create(self.lookup("/dev"), path.rpartition("/")[2], S_IFCHR | 0o666, 0, 0)
            assert device.inode is not None
            device.inode.i_rdev = number

    @property
    def vfsmount(self) -> int:
        """The address of the root's ``struct vfsmount``."""
        return self.root_mount.vfsmount

    def new_super(self, fs: FsType, mode: int, uid: int = 0, gid: int = 0) -> SuperBlock:
        """Return a new instance of a file system with nothing but its root (get_tree_nodev)."""
        sb = SuperBlock.make(self.mem, fs, self._next_dev)
        self.supers[sb.address] = sb
        self._next_dev += 1
        dentry = self.d_alloc(None, "/", sb)
        self.instantiate(dentry, self.new_inode(sb, S_IFDIR | mode, uid, gid))
        dentry.hashed = True
        sb.root, sb.s_root = dentry, dentry.address
        return sb

    def new_mount(self, sb: SuperBlock, point: Dentry | None, source: str = "none") -> Mount:
        """Mount a file system on a directory."""
        above = self.mount_of(point) if point is not None else None
        mount = Mount.make(self.mem, sb, self._next_mnt_id, above, point, source)
        self._next_mnt_id += 1
        self.mounts.append(mount)
        sb.mount = mount
        if point is not None:
            point.mounted = mount
            self.hold(point)
        return mount

    def unmount(self, mount: Mount) -> None:
        """Take a mount away from its directory; its files stay while somebody has them open."""
        point = mount.point
        assert point is not None
        self.mounts.remove(mount)
        point.mounted = None
        mount.point = None
        self.unhold(point)

    def mount_of(self, dentry: Dentry) -> Mount:
        """Return the mount that a dentry is in."""
        assert dentry.sb.mount is not None
        return dentry.sb.mount

    def is_busy(self, mount: Mount) -> bool:
        """Whether somebody has a file of a mount open, works in it, or has mounted something on it."""
        return any(dentry.opens for dentry in _below(mount.root))

    def drop_super(self, sb: SuperBlock) -> None:
        """Forget a file system that is mounted nowhere (generic_shutdown_super): its names and inodes."""
        for dentry in list(_below(sb.root)):
            inode, dentry.inode, dentry.hashed = dentry.inode, None, False
            if inode is not None:
                inode.opens -= 1
                self.put_inode(inode)
            self.free_dentry(dentry)
        del self.supers[sb.address]
        sb.release()

    def add(self, path: str, data: bytes = b"", *, mode: int | None = None, uid: int = 0, gid: int = 0) -> Dentry:
        """Put a file into the tree, with the directories above it; a path that ends in a slash is a directory.

        What is there already is changed; it keeps its permissions unless told.
        """
        dentry = self.root.top
        names = [name for name in path.split("/") if name]
        for position, name in enumerate(names):
            child, own = dentry.children.get(name), position == len(names) - 1
            if child is None:
                is_dir = path.endswith("/") or not own
                kind = S_IFDIR | 0o755 if is_dir else S_IFREG | 0o644
                permissions = kind & S_IFMT | mode if own and mode is not None else kind
                child = self.create(dentry, name, permissions, uid if own else 0, gid if own else 0)
            dentry = child.top
            if own and child.inode is not None and dentry.inode is not None:
                dentry.inode.i_uid, dentry.inode.i_gid = uid, gid
                if mode is not None:
                    dentry.inode.i_mode = dentry.inode.i_mode & S_IFMT | mode
        if dentry.inode is not None and not dentry.inode.is_dir:
            self.set_data(dentry.inode, data)
        return dentry

    def lookup(self, path: str) -> "Dentry":
        """Return the dentry of a path that exists; KeyError."""
        dentry = self.root.top
        for name in path.split("/"):
            if name:
                dentry = dentry.children[name].top
        return dentry

    def walk(self) -> Iterator[Dentry]:
        """Return all dentries, directories before what is in them."""
        yield from _below(self.root, across=True)

    def create(self, parent: Dentry, name: str, mode: int, uid: int, gid: int, data: bytes = b"") -> Dentry:
        """Make a file or directory in a directory."""
        dentry = self.d_alloc(parent, name, parent.sb)
        inode = self.new_inode(parent.sb, mode, uid, gid)
        self.instantiate(dentry, inode)
        if data:
            self.set_data(inode, data)
        return dentry

    def d_alloc(self, parent: Dentry | None, name: str, sb: SuperBlock) -> Dentry:
        """Return a dentry of that name without an inode, which is not in the tree yet; its own parent without one."""
        dentry = Dentry.alloc(self.mem)
        dentry.children, dentry.inode, dentry.long_name, dentry.opens = {}, None, 0, 0
        dentry.hashed, dentry.in_lookup, dentry.mounted, dentry.sb = False, False, None, sb
        dentry.parent = parent or dentry
        dentry.d_parent, dentry.d_sb = dentry.parent.address, sb.address
        self.rename(dentry, name)
        self.by_address[dentry.address] = dentry
        return dentry

    def new_inode(self, sb: SuperBlock, mode: int, uid: int, gid: int) -> Inode:
        """Return a new inode of a file system, which no name has yet."""
        inode = Inode.alloc(self.mem)
        self.init_inode(inode, sb, mode, uid, gid)
        return inode

    def init_inode(self, inode: Inode, sb: SuperBlock, mode: int, uid: int, gid: int) -> None:
        """Fill in an inode that its maker has allocated."""
        inode.data, inode.dirty, inode.opens, inode.sb, inode.xattrs = bytearray(), False, 0, sb, None
        inode.ops = None
        inode.i_mode, inode.i_uid, inode.i_gid, inode.i_nlink = mode, uid, gid, 1
        inode.i_ino, inode.i_sb = sb.next_ino(), sb.address
        self.by_address[inode.address] = inode

    def instantiate(self, dentry: Dentry, inode: Inode) -> None:
        """Let a name stand for an inode, and be found in its directory (d_instantiate)."""
        dentry.inode, dentry.d_inode = inode, inode.address
        # what is in no directory is found by no lookup
        dentry.hashed = dentry.parent is not dentry
        inode.opens += 1
        if dentry.parent is not dentry:
            dentry.parent.children[dentry.name] = dentry
        if inode.is_dir:
            inode.i_nlink = 2
            if dentry.parent is not dentry and dentry.parent.inode is not None:
                dentry.parent.inode.i_nlink += 1

    def link(self, parent: Dentry, name: str, inode: Inode) -> Dentry:
        """Give an inode one more name."""
        dentry = self.d_alloc(parent, name, parent.sb)
        inode.i_nlink += 1
        self.instantiate(dentry, inode)
        return dentry

    def remove(self, dentry: Dentry) -> None:
        """Take a name out of its directory; the inode goes with its last name and its last open file."""
        self.drop_links(dentry)
        self.unhash(dentry)
        self._dput(dentry)

    def drop_links(self, dentry: Dentry) -> None:
        """Count a name of an inode less; a directory and its parent lose what they have of each other (drop_nlink)."""
        inode, parent = dentry.inode, dentry.parent.inode
        assert inode is not None
        assert parent is not None
        if inode.is_dir:
            inode.i_nlink = 0
            parent.i_nlink -= 1
        else:
            inode.i_nlink -= 1

    def unhash(self, dentry: Dentry) -> None:
        """Let no lookup find a name any more (__d_drop)."""
        dentry.hashed = False
        if dentry.parent.children.get(dentry.name) is dentry:
            del dentry.parent.children[dentry.name]

    def move(self, dentry: Dentry, parent: Dentry, name: str) -> None:
        """Give a dentry another directory and name."""
        del dentry.parent.children[dentry.name]
        if dentry.inode is not None and dentry.inode.is_dir and parent is not dentry.parent:
            for directory, links in ((dentry.parent.inode, -1), (parent.inode, 1)):
                if directory is not None:
                    directory.i_nlink += links
        dentry.parent = parent
        dentry.d_parent = parent.address
        self.rename(dentry, name)
        parent.children[name] = dentry

    def opened(self, file: File, dentry: Dentry) -> None:
        """Let an open file point to a name and its inode, and have a reference of them."""
        self.hold(dentry)
        self.point(file, dentry)

    def point(self, file: File, dentry: Dentry) -> None:
        """Let an open file point to a name and its inode."""
        inode = dentry.inode
        assert inode is not None
        file.dentry = dentry
        struct = file.struct
        struct.f_path_dentry, struct.f_inode = dentry.address, inode.address
        struct.f_path_mnt = dentry.sb.mount.vfsmount if dentry.sb.mount is not None else 0
        struct.f_mapping = inode.address + _I_DATA

    def closed(self, file: File) -> None:
        """Let go what an open file pointed to."""
        if file.dentry is not None:
            self.unhold(file.dentry)

    def hold(self, dentry: Dentry) -> None:
        """Keep a name and its inode, whatever becomes of them in the tree (path_get)."""
        dentry.opens += 1

    def unhold(self, dentry: Dentry) -> None:
        """Let go of a name and its inode (path_put)."""
        dentry.opens -= 1
        self._dput(dentry)

    def forget(self, file: File) -> None:
        """Free the structure of a file that is closed."""
        del self.by_address[file.address]
        for held in self.flocks.values():
            held.pop(file, None)
        file.struct.free()

    def _dput(self, dentry: Dentry) -> None:
        # a name that was removed goes with the last who has it
        if dentry.opens or dentry.hashed:
            return
        inode = dentry.inode
        self.free_dentry(dentry)
        if inode is not None:
            inode.opens -= 1
            self.put_inode(inode)

    def free_dentry(self, dentry: Dentry) -> None:
        """Give the memory of a dentry back (dentry_free)."""
        del self.by_address[dentry.address]
        if dentry.long_name:
            self.mem.free(dentry.long_name)
        dentry.free()

    def put_inode(self, inode: Inode) -> None:
        """Let an inode go that nobody has any more."""
        if not inode.opens and inode.address in self.by_address:
            self.free_inode(inode)

    def free_inode(self, inode: Inode) -> None:
        """Give the memory of an inode back (evict)."""
        del self.by_address[inode.address]
        self.flocks.pop(inode.address, None)
        self.on_evict(inode)
        if inode.is_link and inode.i_link:
            self.mem.free(inode.i_link)
        inode.free()

    def link_text(self, inode: Inode) -> int:
        """Return where the path is that a symbolic link names."""
        if not inode.i_link:
            inode.i_link = kmalloc_text(self.mem, bytes(inode.data))
        return inode.i_link

    def set_data(self, inode: Inode, data: bytes | bytearray) -> None:
        """Replace what a file holds."""
        inode.data = bytearray(data)
        inode.i_size = len(data)

    def put_data(self, inode: Inode, pos: int, data: bytes) -> None:
        """Put bytes into a file, with zeroes before them if it ends earlier."""
        if pos > len(inode.data):
            inode.data += bytes(pos - len(inode.data))
        inode.data[pos : pos + len(data)] = data
        inode.i_size = len(inode.data)
        inode.i_blocks = -(-len(inode.data) // 4096) * 8

    def rename(self, dentry: Dentry, name: str) -> None:
        """Give a dentry another name, wherever it is."""
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


def _below(root: Dentry, *, across: bool = False) -> Iterator[Dentry]:
    # a directory and all that is in it, directories first; across: what is mounted instead of what is under it
    waiting = [root.top if across else root]
    while waiting:
        dentry = waiting.pop(0)
        yield dentry
        found = dentry.children.values()
        waiting = [*(child.top if across else child for child in found), *waiting]
