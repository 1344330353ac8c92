"""The index beside a large blob."""

import gzip
from pathlib import Path

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.index import build_index, main, open_indexed
from ebpfsim.btf.types import Int, Struct, Typedef
from ebpfsim.errors import BtfError

BLOB = encode_types([Int("int", 4, 32), Struct("s", 0, ()), Typedef("s___v2", 1), Struct("", 0, ())])


def test_indexed_blob_answers_like_the_plain_one() -> None:
    plain, indexed = Btf(BLOB), open_indexed(BLOB, build_index(BLOB))
    assert list(indexed.types()) == list(plain.types())
    for name in ("int", "s", "s___v2", "nothing"):
        assert indexed.ids_by_name(name) == plain.ids_by_name(name)
        assert indexed.ids_by_essential_name(name) == plain.ids_by_essential_name(name)


def test_index_of_another_blob_is_refused() -> None:
    other = encode_types([Int("int", 8, 64)])
    with pytest.raises(BtfError, match="index belongs to another BTF"):
        open_indexed(other, build_index(BLOB), where="vmlinux")


def test_command_writes_blob_and_index(tmp_path: Path) -> None:
    source = tmp_path / "small.btf"
    source.write_bytes(BLOB)
    assert main([str(source), str(tmp_path)]) == 0
    assert gzip.decompress((tmp_path / "small.btf.gz").read_bytes()) == BLOB
    assert open_indexed(BLOB, (tmp_path / "small.idx").read_bytes()).by_name("int") == 1


def test_command_says_how_to_use_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: python -m ebpfsim.btf.index")
