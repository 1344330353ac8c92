"""The BPF file system: objects that live under a path (kernel/bpf/inode.c, v6.18).

One instance, mounted at /sys/fs/bpf. Left out: permissions, symbolic links, renaming, iterators pinned as files.
"""

from posixpath import dirname, normpath

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.objects import KernelObject

__all__ = ["MOUNT_POINT", "BpfFs"]

MOUNT_POINT = "/sys/fs/bpf"
PATH_MAX, NAME_MAX = 4096, 255  # include/uapi/linux/limits.h


class BpfFs:
    """Directories and pinned objects by path; a pin holds one reference of user space."""

    def __init__(self) -> None:
        self._dirs = {MOUNT_POINT}
        self._pins: dict[str, KernelObject] = {}

    def mkdir(self, path: str) -> None:
        """Make a directory."""
        path = self._new("mkdir", path)
        self._dirs.add(path)

    def pin(self, path: str, obj: KernelObject) -> None:
        """Give an object a name and a reference: EEXIST, ENOENT without the directory, EPERM outside or with dots."""
        path = self._new("obj_pin", path)
        obj.get()
        obj.get_user()
        self._pins[path] = obj

    def get(self, path: str) -> KernelObject:
        """Return a pinned object: ENOENT, or EACCES for a directory."""
        path = self._walk("obj_get", path)
        if path in self._dirs:
            raise KernelError("obj_get", Errno.EACCES, f"'{path}' is a directory")
        obj = self._pins.get(path)
        if obj is None:
            raise KernelError("obj_get", Errno.ENOENT, f"nothing is pinned at '{path}'")
        return obj

    def unlink(self, path: str) -> None:
        """Remove a pin."""
        path = normpath(path)
        if path in self._dirs:
            raise KernelError("unlink", Errno.EISDIR, f"'{path}' is a directory")
        obj = self._pins.pop(path, None)
        if obj is None:
            raise KernelError("unlink", Errno.ENOENT, f"nothing is pinned at '{path}'")
        obj.put_user()

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        path = self._walk("rmdir", path)
        if path not in self._dirs:
            errno = Errno.ENOTDIR if path in self._pins else Errno.ENOENT
            raise KernelError("rmdir", errno, f"no directory '{path}'")
        if path == MOUNT_POINT or any(dirname(entry) == path for entry in (*self._dirs, *self._pins)):
            raise KernelError("rmdir", Errno.ENOTEMPTY, f"directory '{path}'")
        self._dirs.remove(path)

    def pins(self) -> dict[str, KernelObject]:
        """Return the pinned objects by path, in the order of the paths."""
        return dict(sorted(self._pins.items()))

    def _walk(self, op: str, path: str) -> str:
        # the path without detours; ENOTDIR behind what is no directory, ENAMETOOLONG, ENOENT for none at all
        plain = normpath(path)
        if not path:
            raise KernelError(op, Errno.ENOENT, "no path")
        if len(path) >= PATH_MAX or any(len(part) > NAME_MAX for part in path.split("/")):
            raise KernelError(op, Errno.ENAMETOOLONG, f"a path of {len(path)} characters")
        above = dirname(plain)
        while above not in ("", "/"):
            if above in self._pins:
                raise KernelError(op, Errno.ENOTDIR, f"'{above}' is no directory")
            above = dirname(above)
        if path.endswith("/") and plain in self._pins:
            raise KernelError(op, Errno.ENOTDIR, f"'{plain}' is no directory")
        return plain

    def _new(self, op: str, path: str) -> str:
        directory = op != "mkdir" and path.endswith("/")
        path = self._walk(op, path)
        if directory:
            raise KernelError(op, Errno.ENOENT, f"no directory '{path}'")
        if path in self._dirs or path in self._pins:
            raise KernelError(op, Errno.EEXIST, f"'{path}'")
        if not path.startswith(MOUNT_POINT + "/"):
            raise KernelError(op, Errno.EPERM, f"'{path}' is not below {MOUNT_POINT}")
        if dirname(path) not in self._dirs:
            raise KernelError(op, Errno.ENOENT, f"no directory '{dirname(path)}'")
        if "." in path[len(dirname(path)) :]:
            raise KernelError(op, Errno.EPERM, f"'{path}' has a dot, which the file system keeps for itself")
        return path
