"""A link of an iterator as users hold it: every reading begins anew."""

from ebpfsim.attached import AttachedLink

__all__ = ["AttachedIter"]

READ_BYTES = 1 << 16


class AttachedIter(AttachedLink):
    """A link whose program writes what ``read`` returns; closing it detaches the program."""

    def read(self) -> bytes:
        """Let the program see every object once and return all that it wrote; KernelError."""
        bpf = self._host.kernel.bpf
        fd = bpf.iter_create(self.fd)
        try:
            chunks = []
            while chunk := bpf.read(fd, READ_BYTES):
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            bpf.close(fd)

    @property
    def text(self) -> str:
        """What ``read`` returns, as text."""
        return self.read().decode("utf-8", "backslashreplace")
