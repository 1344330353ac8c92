"""Commands of bpf(2) that are too far-reaching for the live kernel: part of the promised interface of both kernels."""

from ebpfsim.errors import NotModelled

__all__ = ["UnservedCalls"]


class UnservedCalls:
    """Each raises NotModelled with the command's name."""

    def prog_attach(self, prog_fd: int, target_fd: int, attach_type: int, *, flags: int = 0, **opts: int) -> None:
        """BPF_PROG_ATTACH."""
        raise NotModelled("bpf(BPF_PROG_ATTACH)", "kernel/bpf/syscall.c: bpf_prog_attach")

    def prog_detach(self, prog_fd: int, target_fd: int, attach_type: int, **opts: int) -> None:
        """BPF_PROG_DETACH."""
        raise NotModelled("bpf(BPF_PROG_DETACH)", "kernel/bpf/syscall.c: bpf_prog_detach")

    def prog_query(self, target_fd: int, attach_type: int, *, query_flags: int = 0) -> None:
        """BPF_PROG_QUERY."""
        raise NotModelled("bpf(BPF_PROG_QUERY)", "kernel/bpf/syscall.c: bpf_prog_query")

    def raw_tracepoint_open(self, name: str, prog_fd: int, *, cookie: int = 0) -> int:
        """BPF_RAW_TRACEPOINT_OPEN."""
        raise NotModelled("bpf(BPF_RAW_TRACEPOINT_OPEN)", "kernel/bpf/syscall.c: bpf_raw_tracepoint_open")

    def iter_create(self, link_fd: int, *, flags: int = 0) -> int:
        """BPF_ITER_CREATE."""
        raise NotModelled("bpf(BPF_ITER_CREATE)", "kernel/bpf/bpf_iter.c: bpf_iter_new_fd")

    def token_create(self, bpffs_fd: int, *, flags: int = 0) -> int:
        """BPF_TOKEN_CREATE."""
        raise NotModelled("bpf(BPF_TOKEN_CREATE)", "kernel/bpf/token.c")
