"""What bpf(2) hands back, for the simulated kernel and for the live one: field names are those of the C structures."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["BtfInfo", "Info", "LinkInfo", "Loaded", "MapInfo", "ProgInfo", "TestRun"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A program that was loaded: its descriptor, the verifier's log, and how many instructions it looked at."""

    fd: int
    log: str
    verified_insns: int


@dataclass(frozen=True, slots=True)
class TestRun:
    """What BPF_PROG_TEST_RUN gave. ``duration_ns`` is the mean of a run."""

    __test__ = False  # no test class, whatever pytest thinks of the name

    retval: int
    data_out: bytes
    ctx_out: bytes
    duration_ns: int


@dataclass(frozen=True, slots=True)
class MapInfo:
    """``struct bpf_map_info``."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    name: str
    ifindex: int = 0
    btf_vmlinux_value_type_id: int = 0
    netns_dev: int = 0
    netns_ino: int = 0
    btf_id: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0
    btf_vmlinux_id: int = 0
    map_extra: int = 0


@dataclass(frozen=True, slots=True)
class ProgInfo:
    """``struct bpf_prog_info``; arrays are tuples and bytes, so ``nr_map_ids`` is ``len(map_ids)``."""

    type: int
    id: int
    tag: bytes
    name: str
    jited_prog_len: int = 0
    xlated_prog_len: int = 0
    xlated_prog_insns: bytes = b""
    load_time: int = 0
    created_by_uid: int = 0
    map_ids: tuple[int, ...] = ()
    ifindex: int = 0
    gpl_compatible: int = 0
    netns_dev: int = 0
    netns_ino: int = 0
    btf_id: int = 0
    func_info_rec_size: int = 0
    func_info: bytes = b""
    line_info_rec_size: int = 0
    line_info: bytes = b""
    jited_ksyms: tuple[int, ...] = ()
    jited_func_lens: tuple[int, ...] = ()
    prog_tags: tuple[bytes, ...] = ()
    run_time_ns: int = 0
    run_cnt: int = 0
    recursion_misses: int = 0
    verified_insns: int = 0
    attach_btf_obj_id: int = 0
    attach_btf_id: int = 0

    @property
    def nr_map_ids(self) -> int:
        """Number of maps that the program uses."""
        return len(self.map_ids)


@dataclass(frozen=True, slots=True)
class BtfInfo:
    """``struct bpf_btf_info``."""

    btf: bytes
    btf_size: int
    id: int
    name: str = ""
    kernel_btf: int = 0


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """``struct bpf_link_info``; the members of its union are in ``details`` and can be read as attributes."""

    type: int
    id: int
    prog_id: int
    details: Mapping[str, object] = field(default_factory=dict)

    def __getattr__(self, name: str) -> object:
        if name in ("details", "__setstate__", "__getstate__"):
            raise AttributeError(name)
        try:
            return self.details[name]
        except KeyError:
            raise AttributeError(f"a link of type {self.type} has no '{name}'") from None


Info = MapInfo | ProgInfo | BtfInfo | LinkInfo
