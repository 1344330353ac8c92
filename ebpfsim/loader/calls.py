"""The calls of bpf(2) that the loader uses, as a protocol: ``host.bpf`` and ``ebpfsim.live.Bpf()`` have them."""

from collections.abc import Sequence
from typing import Any, Protocol

from ebpfsim.errors import EbpfSimError, InputError, KernelError, NotModelled, VerifierError

__all__ = ["BpfCalls", "Loaded", "in_context"]


class Loaded(Protocol):
    """What prog_load gives back."""

    @property
    def fd(self) -> int:
        """The program's descriptor."""
        ...

    @property
    def log(self) -> str:
        """The verifier's log, empty at log level 0."""
        ...

    @property
    def verified_insns(self) -> int:
        """How many instructions the verifier looked at."""
        ...


class BpfCalls(Protocol):
    """bpf(2) by libbpf's names."""

    def map_create(
        self,
        map_type: int,
        key_size: int,
        value_size: int,
        max_entries: int,
        *,
        map_flags: int = ...,
        name: str = ...,
        inner_map_fd: int = ...,
        map_extra: int = ...,
        btf_fd: int = ...,
        btf_key_type_id: int = ...,
        btf_value_type_id: int = ...,
        btf_vmlinux_value_type_id: int = ...,
        numa_node: int = ...,
    ) -> int:
        """BPF_MAP_CREATE."""
        ...

    def map_lookup_elem(self, fd: int, key: bytes, *, flags: int = ...) -> bytes:
        """BPF_MAP_LOOKUP_ELEM."""
        ...

    def map_update_elem(self, fd: int, key: bytes, value: bytes, *, flags: int = ...) -> None:
        """BPF_MAP_UPDATE_ELEM."""
        ...

    def map_delete_elem(self, fd: int, key: bytes) -> None:
        """BPF_MAP_DELETE_ELEM."""
        ...

    def map_get_next_key(self, fd: int, key: bytes | None) -> bytes:
        """BPF_MAP_GET_NEXT_KEY."""
        ...

    def map_mmap(self, fd: int, length: int, *, writable: bool) -> memoryview:
        """mmap(2) of a map."""
        ...

    def map_freeze(self, fd: int) -> None:
        """BPF_MAP_FREEZE."""
        ...

    def prog_load(
        self,
        prog_type: int,
        insns: bytes,
        *,
        name: str = ...,
        license: str = ...,  # noqa: A002
        expected_attach_type: int = ...,
        prog_flags: int = ...,
        attach_btf_id: int = ...,
        attach_prog_fd: int = ...,
        prog_btf_fd: int = ...,
        func_info: bytes = ...,
        line_info: bytes = ...,
        fd_array: Sequence[int] = ...,
        log_level: int = ...,
        ifindex: int = ...,
    ) -> Loaded:
        """BPF_PROG_LOAD."""
        ...

    def btf_load(self, data: bytes, *, log_level: int = ...) -> int:
        """BPF_BTF_LOAD."""
        ...

    def btf_get_next_id(self, start_id: int) -> int:
        """BPF_BTF_GET_NEXT_ID."""
        ...

    def btf_get_fd_by_id(self, object_id: int) -> int:
        """BPF_BTF_GET_FD_BY_ID."""
        ...

    def obj_get_info_by_fd(self, fd: int) -> Any:
        """BPF_OBJ_GET_INFO_BY_FD."""
        ...

    def obj_pin(self, fd: int, path: str) -> None:
        """BPF_OBJ_PIN."""
        ...

    def obj_get(self, path: str, *, file_flags: int = ...) -> int:
        """BPF_OBJ_GET."""
        ...

    def prog_bind_map(self, prog_fd: int, map_fd: int) -> None:
        """BPF_PROG_BIND_MAP."""
        ...

    def close(self, fd: int) -> None:
        """close(2)."""
        ...


def in_context(error: EbpfSimError, what: str) -> EbpfSimError:
    """Return the error again, with what was being done in front; the verifier's log and notes stay with it."""
    again = error
    if isinstance(error, VerifierError):
        again = VerifierError(f"{what}: {error.op}", error.errno, error.log, error.insn_idx)
    elif isinstance(error, KernelError):
        again = KernelError(f"{what}: {error.op}", error.errno, error.detail)
    elif isinstance(error, NotModelled):
        again = NotModelled(f"{error.feature}, needed to {what}", error.source)
    elif isinstance(error, InputError) and not error.where:
        again = type(error)(what, error.problem, error.hint)
    if again is not error:
        for note in getattr(error, "__notes__", ()):
            again.add_note(note)
    return again
