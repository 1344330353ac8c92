"""A program of an object: what may be set before it is loaded, and what is known afterwards."""

from typing import Any

from ebpfsim.elf.sections import SectionFlags
from ebpfsim.elf.spec import ProgSpec
from ebpfsim.errors import InputError
from ebpfsim.loader.calls import BpfCalls, Loaded
from ebpfsim.uapi.bpf import ProgType

__all__ = ["Program"]


class Program:
    """An entry point of an object.

    Settable before load: ``type``, ``expected_attach_type``, ``attach_target``, ``attach_prog_fd``, ``attach_btf_id``,
    ``flags`` (prog_flags), ``autoload``, ``log_level``. Afterwards ``fd``, ``id``, ``tag``, ``log``,
    ``verified_insns`` and ``insns``, the bytes that were handed to PROG_LOAD.
    """

    def __init__(self, spec: ProgSpec, where: str) -> None:
        self.spec = spec
        self.name = spec.name
        self.section = spec.section
        self.type: ProgType = spec.type
        self.expected_attach_type: int = spec.expected_attach_type
        self.attach_target = spec.attach_target
        self.attach_prog_fd = 0
        self.attach_btf_id = 0
        self.attach_btf = SectionFlags.ATTACH_BTF in spec.flags
        self.flags = 0
        self.autoload = spec.autoload
        self.log_level = 0
        self.insns = b""
        self._where = where
        self._bpf: BpfCalls | None = None
        self._loaded: Loaded | None = None

    def __repr__(self) -> str:
        return f"<Program '{self.name}' {self.section}>"

    @property
    def loaded(self) -> bool:
        """Whether the kernel has it."""
        return self._loaded is not None

    def set_loaded(self, bpf: BpfCalls | None, loaded: Loaded | None, insns: bytes = b"") -> None:
        """Take over what prog_load gave; the object calls this."""
        self._bpf, self._loaded, self.insns = bpf, loaded, insns

    def _result(self) -> Loaded:
        if self._loaded is None:
            raise InputError(self._where, f"program '{self.name}' is not loaded", "call load() on the object")
        return self._loaded

    @property
    def fd(self) -> int:
        """The program's descriptor."""
        return self._result().fd

    @property
    def log(self) -> str:
        """The verifier's log at ``log_level``."""
        return self._result().log

    @property
    def verified_insns(self) -> int:
        """How many instructions the verifier looked at."""
        return self._result().verified_insns

    @property
    def id(self) -> int:
        """The program's id."""
        return int(self._info().id)

    @property
    def tag(self) -> bytes:
        """The SHA-1 of its instructions, cut to 8 bytes."""
        return bytes(self._info().tag)

    def _info(self) -> Any:
        fd = self.fd
        assert self._bpf is not None
        return self._bpf.obj_get_info_by_fd(fd)
