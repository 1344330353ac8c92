"""Runs recorded programs through the verifier and compares with what a Linux 6.18 kernel said.

A record of the corpus (tests/data/corpus/README.md) becomes maps, a LoadAttr and a verdict; ``compare`` says what
differs.
"""

import json
import lzma
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno, errno_name
from ebpfsim.errors import KernelError, NotModelled, VerifierError
from ebpfsim.isa.insn import Insn, decode
from ebpfsim.maps.map import Map, MapAttr, MapBtf
from ebpfsim.maps.types import MAP_TYPES, create_map
from ebpfsim.memory import Memory
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.uapi.bpf import MapType, ProgType
from ebpfsim.verifier.verify import LoadAttr, Verified, verify

FD_BASE = 100
TEMPLATE_FD = 99


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON records of a file."""
    with lzma.open(path, "rt") as file:
        for line in file:
            yield json.loads(line)


def read_corpus(path: Path) -> list[dict[str, Any]]:
    """Return the records, with ``btf`` blobs filled in."""
    blobs: dict[str, str] = {}
    records = []
    for record in read_lines(path):
        if "btf_blob" in record:
            blobs["@" + record["btf_blob"]] = record["hex"]
            continue
        if str(record.get("btf", "")).startswith("@"):
            record["btf"] = blobs[record["btf"]]
        records.append(record)
    return records


@lru_cache(maxsize=16)
def btf_of(blob: str) -> Btf:
    """Return the BTF of a blob in hex: maps and programs that name the same one share it."""
    return Btf(bytes.fromhex(blob))


class Kernel:
    """The maps of one record."""

    nr_cpus = 2

    def __init__(self, record: dict[str, Any]) -> None:
        self.mem = Memory(1 << 26)
        self.maps: list[Map] = []
        for spec in record["maps"]:
            self.maps.append(self._make(spec, record))

    def map_by_fd(self, fd: int) -> Map:
        if fd == TEMPLATE_FD:
            return self._template
        number = fd - FD_BASE
        if not 0 <= number < len(self.maps):
            raise KernelError("map", Errno.EBADF, "")
        return self.maps[number]

    def prog_by_fd(self, fd: int) -> KernelObject:
        raise NotModelled("programs in maps")

    def object_by_fd(self, fd: int, kind: FdKind | None) -> KernelObject:
        raise NotModelled("objects in maps")

    def device_by_ifindex(self, ifindex: int) -> object | None:
        return None

    def _inner(self, inner: Any, record: dict[str, Any]) -> int:
        # the descriptor of an inner map: a map before this one, or one of its own
        if isinstance(inner, int):
            return FD_BASE + inner
        self._template = self._make(inner, record)
        return TEMPLATE_FD

    def _make(self, spec: dict[str, Any], record: dict[str, Any]) -> Map:
        kind = MapType(spec["type"])
        attr = MapAttr(
            kind,
            spec["key"],
            spec["value"],
            spec["max"],
            spec.get("flags", 0),
            _name(record, spec),
            map_extra=spec.get("map_extra", 0),
            btf_key_type_id=spec.get("btf_key") or 0,
            btf_value_type_id=spec.get("btf_value") or 0,
        )
        if spec.get("inner") is not None:
            attr = replace(attr, inner_map_fd=self._inner(spec["inner"], record))
        if kind in MAP_TYPES:
            map_ = create_map(attr, self.mem, self.nr_cpus, self)
        else:
            map_ = Map(attr, self.mem, self.nr_cpus)
        if spec.get("btf"):
            blob = record["btf"] if spec["btf"] == "prog" else spec["btf"]
            btf = btf_of(blob)
            map_.btf = MapBtf(KernelObject(), spec.get("btf_key", 0), spec.get("btf_value", 0), map_record(btf, spec))
        for key, value in (spec.get("init") or {}).items():
            map_.sys_update(bytes.fromhex(key), bytes.fromhex(value))
        if spec.get("frozen") or spec.get("freeze"):
            map_.frozen = True
        return map_


def _name(record: dict[str, Any], spec: dict[str, Any]) -> str:
    """Return the name of a map; those of raw records have one only together with BTF."""
    if record["id"].startswith("raw/"):
        return "test_map" if spec.get("btf") else ""
    return str(spec.get("name", ""))[:15]


def map_record(btf: Btf, spec: dict[str, Any]) -> tuple[Any, ...]:
    """Return the special fields of a map's values."""
    from ebpfsim.maps.btf import special_fields

    return tuple(special_fields(btf, spec.get("btf_value", 0)))


def load_attr(record: dict[str, Any], log_level: int) -> LoadAttr:
    """Return what the record's program was loaded with."""
    insns = list(decode(bytes.fromhex(record["insns"])))
    for slot, number in record["map_refs"]:
        insns[slot] = insns[slot]._replace(imm=FD_BASE + number)
    for slot, name in record.get("kfunc_refs") or ():
        insns[slot] = insns[slot]._replace(imm=vmlinux().find(name, Kind.FUNC) or 0)
    btf = btf_of(record["btf"]) if record.get("btf") else None
    return LoadAttr(
        ProgType(record["prog_type"]),
        tuple(Insn(*insn) for insn in insns),
        expected_attach_type=record["expected_attach_type"],
        prog_flags=record["prog_flags"],
        btf=btf,
        func_info=bytes.fromhex(record.get("func_info") or ""),
        line_info=bytes.fromhex(record.get("line_info") or ""),
        attach_btf_id=record.get("attach_btf_id") or 0,
        log_level=log_level,
    )


@dataclass(slots=True)
class Outcome:
    """What the verifier said of a record: accept, reject, not modelled, or a crash."""

    verdict: str
    errno: str = ""
    log: str = ""
    processed: int = -1
    detail: str = ""
    verified: Verified | None = None

    @property
    def message(self) -> str:
        return reason(self.log)


def reason(log: str) -> str:
    """Return the line that gives the reason of a refusal."""
    lines = [line for line in log.splitlines() if line and not line.startswith(STATISTICS)]
    return lines[-1] if lines else ""


STATISTICS = ("processed ", "verification time ", "stack depth ")


def run(record: dict[str, Any], log_level: int = 5) -> Outcome:
    """Verify a record's program."""
    try:
        kernel = Kernel(record)
        verified = verify(load_attr(record, log_level), kernel)
    except VerifierError as error:
        found = re.search(r"^processed (\d+) insns", error.log, re.M)
        return Outcome("reject", errno_name(error.errno), error.log, int(found[1]) if found else 0)
    except NotModelled as error:
        return Outcome("not modelled", detail=error.feature)
    except KernelError as error:
        return Outcome("not modelled", detail=f"map: {error}")
    return Outcome("accept", "", verified.log, verified.stats.insns_processed, verified=verified)


MASKS = (
    (re.compile(r"0xffff[0-9a-f]{12}"), "ADDR"),
    (re.compile(r"verification time \d+ usec"), "verification time N usec"),
)


def masked(log: str) -> str:
    """Return a log without what differs from run to run."""
    for pattern, text in MASKS:
        log = pattern.sub(text, log)
    return log


def compare(record: dict[str, Any], outcome: Outcome) -> list[str]:
    """Return the names of what differs from the recorded kernel: verdict, errno, message, processed."""
    expect = record["expect"]
    if outcome.verdict != expect["verdict"]:
        return ["verdict"]
    wrong = []
    if outcome.errno != expect["errno"]:
        wrong.append("errno")
    if expect["verdict"] == "reject" and outcome.message != expect["message"]:
        wrong.append("message")
    if outcome.processed != expect["insns_processed"]:
        wrong.append("processed")
    return wrong
