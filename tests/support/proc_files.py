"""What a task sees of /proc, for the tests of its modules."""

from collections.abc import Callable
from typing import Any

from cgroup_filters import Tasks

__all__ = ["ProcTasks"]


class ProcTasks(Tasks):
    """Tasks that look into /proc."""

    def text(self, path: str, size: int = 1 << 14) -> str | int:
        """Return what a file says, or -errno."""
        fd = self.open(f"/proc/{path}")
        if fd < 0:
            return fd
        found = self.read(fd, size)
        self.call("close", fd)
        return found

    def link(self, path: str) -> str | int:
        """Return where a link leads, or -errno."""
        buffer = self.room.put(bytes(256))
        size = self.call("readlink", f"/proc/{path}\0".encode(), buffer, 256)
        return bytes(self.task.user.read(buffer, size)).decode() if size >= 0 else size

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, without the two that all have."""
        fd, buffer = self.open(f"/proc/{path}"), self.room.put(bytes(4096))
        size = self.call("getdents64", fd, buffer, 4096)
        self.call("close", fd)
        data, found = bytes(self.task.user.read(buffer, size)), []
        while data:
            length = int.from_bytes(data[16:18], "little")
            found.append(data[19:length].split(b"\0")[0].decode())
            data = data[length:]
        return found[2:]

    def see(self, look: Callable[["ProcTasks"], Any], uid: int = 0) -> Any:
        """Let a task look, and return what it saw."""
        (found,) = self.plain(lambda _tasks: iter([look(self)]), uid=uid)
        return found
