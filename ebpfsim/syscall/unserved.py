"""Commands of bpf(2) that are too far-reaching for the live kernel: part of the promised interface of both kernels."""

from ebpfsim.errors import NotModelled

__all__ = ["UnservedCalls"]


class UnservedCalls:
    """Each raises NotModelled with the command's name."""

    def raw_tracepoint_open(self, name: str, prog_fd: int, *, cookie: int = 0) -> int:
        """BPF_RAW_TRACEPOINT_OPEN."""
        raise NotModelled("bpf(BPF_RAW_TRACEPOINT_OPEN)", "kernel/bpf/syscall.c: bpf_raw_tracepoint_open")

    def iter_create(self, link_fd: int, *, flags: int = 0) -> int:
        """BPF_ITER_CREATE."""
        raise NotModelled("bpf(BPF_ITER_CREATE)", "kernel/bpf/bpf_iter.c: bpf_iter_new_fd")

    def token_create(self, bpffs_fd: int, *, flags: int = 0) -> int:
        """BPF_TOKEN_CREATE."""
        raise NotModelled("bpf(BPF_TOKEN_CREATE)", "kernel/bpf/token.c")
