"""What an object file says, as plain data: the same file gives the same spec on any machine.

Nothing here touches a kernel. ``ebpfsim.loader`` makes maps and programs of it, ``ebpfsim.elf.link`` the instructions.
"""

from dataclasses import dataclass, field
from enum import Enum

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.ext import BtfExt
from ebpfsim.elf.file import BUILD_HINT
from ebpfsim.elf.sections import SectionFlags
from ebpfsim.errors import ElfError
from ebpfsim.isa.insn import Insn
from ebpfsim.uapi.bpf import ProgType

__all__ = [
    "Extern",
    "ExternKind",
    "Function",
    "MapKind",
    "MapSpec",
    "ObjectSpec",
    "ProgSpec",
    "Reloc",
    "RelocKind",
]


class RelocKind(Enum):
    """What an instruction refers to (``enum reloc_type`` of libbpf)."""

    MAP = "map"
    DATA = "data"
    CALL = "call"
    SUBPROG_ADDR = "subprog_addr"
    EXTERN_LD64 = "extern_ld64"
    EXTERN_CALL = "extern_call"
    JUMP_TABLE = "jump_table"


@dataclass(frozen=True, slots=True)
class Reloc:
    """A relocation of slot ``insn_idx`` of its function.

    ``target`` names a map or an extern; calls and function addresses give section ``section`` instead. ``off`` is the
    symbol's byte offset there; the instruction's immediate still has to be added.
    """

    insn_idx: int
    kind: RelocKind
    target: str = ""
    section: int = 0
    off: int = 0


@dataclass(frozen=True, slots=True)
class Function:
    """A function with code: an entry point or a subprogram. ``start`` is its first slot within section ``section``."""

    name: str
    section: int
    section_name: str
    start: int
    insns: tuple[Insn, ...]
    relocs: tuple[Reloc, ...]
    is_global: bool
    hidden: bool

    @property
    def end(self) -> int:
        """One past its last slot within the section."""
        return self.start + len(self.insns)


@dataclass(frozen=True, slots=True)
class ProgSpec:
    """An entry point. ``section`` is the SEC() name without ``?``, ``attach_target`` what follows its first ``/``.

    ``expected_attach_type`` 0 stands for none. ``type`` is UNSPEC when libbpf does not know the section name.
    """

    name: str
    section: str
    type: ProgType
    expected_attach_type: int
    attach_target: str
    flags: SectionFlags
    autoload: bool
    function: Function


class MapKind(Enum):
    """Where a map comes from."""

    BTF = "BTF-defined"
    LEGACY = "legacy"
    DATA = ".data"
    RODATA = ".rodata"
    BSS = ".bss"
    KCONFIG = ".kconfig"
    STRUCT_OPS = ".struct_ops"


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map that the object defines. Sizes in bytes; type ids are those of the object's BTF, 0 for none.

    ``slots`` are the initial contents by index: names of programs (prog_array, or struct_ops by the member's index) or
    of maps (map-in-map); ``values_off`` is the byte offset of ``values`` in a BTF-defined map's struct, -1 when it has
    none. ``contents`` is the initial image of a data map, of an arena or of a table of functions;
    ``section_name`` its full section, which the map's name may cut short. ``extra``
    holds bytes of a legacy definition beyond the fields that libbpf knew, when they are not zero.
    """

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    map_extra: int = 0
    numa_node: int = 0
    key_type_id: int = 0
    value_type_id: int = 0
    pin_by_name: bool = False
    inner: "MapSpec | None" = None
    slots: dict[int, str] = field(default_factory=dict)
    kind: MapKind = MapKind.BTF
    contents: bytes = b""
    section: int = 0
    section_name: str = ""
    section_off: int = 0
    values_off: int = -1
    extra: bytes = b""
    autocreate: bool = True

    @property
    def is_data(self) -> bool:
        """Whether it holds global variables."""
        return self.kind in (MapKind.DATA, MapKind.RODATA, MapKind.BSS, MapKind.KCONFIG)


class ExternKind(Enum):
    """Which section an extern is declared in."""

    KCONFIG = ".kconfig"
    KSYM = ".ksyms"


@dataclass(frozen=True, slots=True)
class Extern:
    """Something that the kernel has to provide: a configuration value, a variable, a function (kfunc).

    ``type_id`` is the declared type in the object's BTF (a prototype for functions), 0 for a ksym of type void.
    ``data_off`` and ``size`` place a configuration value in the .kconfig map.
    """

    name: str
    kind: ExternKind
    weak: bool
    is_func: bool
    type_id: int
    data_off: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class ObjectSpec:
    """An object file. ``functions`` are all functions with code, by section and position; dicts keep libbpf's order.

    ``btf`` is the object's BTF with what clang leaves open filled in (sizes and offsets of data sections, linkage), as
    it is handed to the kernel; ``text_section`` the index of .text, 0 when there is none.
    """

    name: str
    where: str
    license: str
    kernel_version: int
    programs: dict[str, ProgSpec]
    maps: dict[str, MapSpec]
    externs: tuple[Extern, ...]
    functions: tuple[Function, ...]
    btf: Btf | None
    btf_ext: BtfExt | None
    text_section: int = 0

    def function_at(self, section: int, insn_idx: int) -> Function | None:
        """Return the function that covers a slot of a section, or None."""
        return next((f for f in self.functions if f.section == section and f.start <= insn_idx < f.end), None)

    def require_contents(self) -> None:
        """Raise ElfError when there is nothing to load: libbpf opens such objects, users forgot something."""
        if self.programs or self.maps:
            return
        if not self.functions:
            raise ElfError(self.where, "no programs and no maps", f'{BUILD_HINT}, with SEC("xdp") before a function')
        names = ", ".join(f"'{function.name}'" for function in self.functions[:3])
        problem = f"no programs: function {names} is in section .text, not in one that names a program type"
        raise ElfError(self.where, problem, 'write SEC("xdp") before the function')
