"""As much of libbpf as recording needs, through ctypes: a loader and a kernel that are not ours."""

import ctypes
import ctypes.util
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["LoadedObject", "Refused", "version"]

_LIB = ctypes.CDLL(ctypes.util.find_library("bpf"), use_errno=True)
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_SILENT = _PRINT(lambda level, text, arguments: 0)
_LOG_BYTES = 1 << 20

_PERCPU = {5, 6, 10}  # enum bpf_map_type: PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH
_ARRAYS = {2, 6}
_HASHES = {1, 5, 9, 10}
_RINGBUF = 27


class _OpenOpts(ctypes.Structure):
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("reserved", ctypes.c_uint32),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
        ("kernel_log_buf", ctypes.c_char_p),
        ("kernel_log_size", ctypes.c_size_t),
        ("kernel_log_level", ctypes.c_uint32),
    ]


class _TestRunOpts(ctypes.Structure):
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    ]


def _function(name: str, result: type | None, *arguments: type) -> Callable[..., Any]:
    function = getattr(_LIB, name)
    function.restype, function.argtypes = result, list(arguments)
    return function


_P = ctypes.c_void_p
_S = ctypes.c_char_p
_I = ctypes.c_int
_set_print = _function("libbpf_set_print", _P, _P)
_version = _function("libbpf_version_string", _S)
_open = _function("bpf_object__open_file", _P, _S, _P)
_load = _function("bpf_object__load", _I, _P)
_close = _function("bpf_object__close", None, _P)
_next_program = _function("bpf_object__next_program", _P, _P, _P)
_program_name = _function("bpf_program__name", _S, _P)
_program_fd = _function("bpf_program__fd", _I, _P)
_set_autoload = _function("bpf_program__set_autoload", _I, _P, ctypes.c_bool)
_next_map = _function("bpf_object__next_map", _P, _P, _P)
_map_name = _function("bpf_map__name", _S, _P)
_map_fd = _function("bpf_map__fd", _I, _P)
_map_type = _function("bpf_map__type", ctypes.c_uint32, _P)
_key_size = _function("bpf_map__key_size", ctypes.c_uint32, _P)
_value_size = _function("bpf_map__value_size", ctypes.c_uint32, _P)
_max_entries = _function("bpf_map__max_entries", ctypes.c_uint32, _P)
_test_run = _function("bpf_prog_test_run_opts", _I, _I, _P)
_lookup = _function("bpf_map_lookup_elem", _I, _I, _S, _P)
_update = _function("bpf_map_update_elem", _I, _I, _S, _S, ctypes.c_uint64)
_next_key = _function("bpf_map_get_next_key", _I, _I, _S, _P)
_info = _function("bpf_obj_get_info_by_fd", _I, _I, _P, _P)
_nr_cpus = _function("libbpf_num_possible_cpus", _I)

_set_print(_SILENT)


def version() -> str:
    """Return libbpf's version, for instance ``v1.1``."""
    return _version().decode()


class Refused(Exception):
    """The kernel refused the object: ``errno`` and the verifier's log."""

    def __init__(self, errno: int, log: str) -> None:
        self.errno, self.log = errno, log
        super().__init__(f"{os.strerror(errno)}\n{log}")


class LoadedObject:
    """An object file loaded into the kernel of this machine, all of it or one program only."""

    def __init__(self, path: Path, only: str | None = None) -> None:
        log = ctypes.create_string_buffer(_LOG_BYTES)
        opts = _OpenOpts(sz=ctypes.sizeof(_OpenOpts), kernel_log_size=_LOG_BYTES, kernel_log_level=0)
        opts.kernel_log_buf = ctypes.cast(log, ctypes.c_char_p)
        self._obj = _open(os.fsencode(path), ctypes.byref(opts))
        if not self._obj:
            raise Refused(ctypes.get_errno(), f"libbpf cannot open {path.name}")
        self.programs = {_program_name(p).decode(): p for p in self._walk(_next_program)}
        for name, program in self.programs.items():
            if only and name != only:
                _set_autoload(program, False)
        error = _load(self._obj)
        if error:
            _close(self._obj)
            raise Refused(-error, log.value.decode())
        self.maps = {_map_name(m).decode(): m for m in self._walk(_next_map)}

    def _walk(self, step: Callable[..., Any]) -> Iterator[int]:
        item = step(self._obj, None)
        while item:
            yield item
            item = step(self._obj, item)

    def close(self) -> None:
        """Let go of the object, its maps and programs."""
        _close(self._obj)

    def program_info(self, name: str) -> dict[str, int | str]:
        """Return what ``struct bpf_prog_info`` says that does not change from load to load."""
        buffer = ctypes.create_string_buffer(232)
        size = ctypes.c_uint32(232)
        if _info(_program_fd(self.programs[name]), buffer, ctypes.byref(size)):
            raise OSError(ctypes.get_errno(), "bpf_obj_get_info_by_fd")
        xlated, verified = struct.unpack_from("<I", buffer, 20)[0], struct.unpack_from("<I", buffer, 216)[0]
        return {"tag": buffer.raw[8:16].hex(), "xlated_bytes": xlated, "verified_insns": verified}

    def test_run(self, name: str, data: bytes) -> tuple[int, bytes]:
        """Return the program's value and the packet it leaves."""
        out = ctypes.create_string_buffer(16384)
        opts = _TestRunOpts(sz=ctypes.sizeof(_TestRunOpts), data_in=data, data_size_in=len(data), repeat=1)
        opts.data_out, opts.data_size_out = ctypes.addressof(out), len(out)
        if _test_run(_program_fd(self.programs[name]), ctypes.byref(opts)):
            raise OSError(ctypes.get_errno(), f"test run of {name} on {len(data)} bytes")
        return opts.retval, out.raw[: opts.data_size_out]

    def update(self, name: str, key: bytes, value: bytes) -> None:
        """Set one element of a map."""
        if _update(_map_fd(self.maps[name]), key, value, 0):
            raise OSError(ctypes.get_errno(), f"update of {name}")

    def contents(self, name: str) -> dict[bytes, bytes] | list[bytes] | None:
        """Return key -> value of an array or hash, the records of a ring buffer, None for other maps."""
        map_ = self.maps[name]
        fd, kind = _map_fd(map_), _map_type(map_)
        if kind == _RINGBUF:
            return _ring_records(fd, _max_entries(map_))
        if kind not in _ARRAYS | _HASHES:
            return None
        size = _value_size(map_)
        if kind in _PERCPU:
            size = (size + 7) // 8 * 8 * _nr_cpus()
        value = ctypes.create_string_buffer(size)
        found = {}
        for key in _keys(fd, _key_size(map_)):
            if _lookup(fd, key, value):
                raise OSError(ctypes.get_errno(), f"lookup in {name}")
            found[key] = value.raw
        return dict(sorted(found.items()))


def _keys(fd: int, size: int) -> Iterator[bytes]:
    key, buffer = None, ctypes.create_string_buffer(size)
    while _next_key(fd, key, buffer) == 0:
        key = buffer.raw
        yield key


def _ring_records(fd: int, size: int) -> list[bytes]:
    # producer page, then the data twice in a row; a header is length (bit 31 busy, bit 30 discarded) and page offset
    with mmap.mmap(fd, mmap.PAGESIZE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE) as ring:
        (end,) = struct.unpack_from("<Q", ring, 0)
        at, records = 0, []
        while at < end:
            (header,) = struct.unpack_from("<I", ring, mmap.PAGESIZE + at % size)
            length = header & 0x3FFFFFFF
            start = mmap.PAGESIZE + at % size + 8
            if not header >> 30:
                records.append(bytes(ring[start : start + length]))
            at += 8 + (length + 7) // 8 * 8
        return records
