"""File systems and where they are mounted: what programs find in RAM."""

from ebpfsim.btf.view import place
from ebpfsim.memory import Memory
from tracing.filesystems import FILE_SYSTEMS
from tracing.vfs import Vfs


def test_mounts_are_in_the_structures() -> None:
    mem = Memory()
    vfs = Vfs(mem)
    point = vfs.lookup("/usr/bin")
    mount = vfs.new_mount(vfs.new_super(FILE_SYSTEMS["tmpfs"], 0o755), point, "data")
    inside = vfs.add("/usr/bin/tool", b"x")
    assert inside.path == "/usr/bin/tool"
    assert inside.parent is mount.root
    assert vfs.mount_of(inside) is mount

    def load(at: int, struct: str, path: str) -> int:
        offset, size = place(struct, path)
        return mem.load(at + offset, size)

    # struct mount (fs/mount.h)
    assert load(mount.address, "mount", "mnt_mountpoint") == point.address
    assert load(mount.address, "mount", "mnt_parent") == vfs.root_mount.address
    sb = load(mount.address, "mount", "mnt.mnt_sb")
    assert load(sb, "super_block", "s_magic") == 0x01021994
    assert mem.read_string(load(load(sb, "super_block", "s_type"), "file_system_type", "name"), 16) == b"tmpfs"
    assert mem.read_string(load(mount.address, "mount", "mnt_devname"), 16) == b"data"
    vfs.unmount(mount)
    assert vfs.lookup("/usr/bin") is point


def test_each_file_system_has_its_own_numbers() -> None:
    vfs = Vfs(Memory())
    devices = [mount.sb.s_dev for mount in vfs.mounts]
    assert len(set(devices)) == len(devices)
    assert all(mount.root.inode is not None and mount.root.inode.i_ino == 1 for mount in vfs.mounts)
