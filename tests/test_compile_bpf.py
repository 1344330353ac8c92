"""The committed objects are what their sources compile to, and tell nothing of the machine that built them."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "scenarios" / "bpf").glob("*.bpf.c"))
OBJECTS = sorted(ROOT.glob("scenarios/**/*.o")) + sorted((ROOT / "tests" / "objects" / "built").glob("*.o"))
BUILT_BY = re.search(r"^    (.* version .*)$", (ROOT / "scenarios" / "bpf" / "README.md").read_text(), re.M)


def compile_bpf() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_bpf", ROOT / "tools" / "compile_bpf.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_source_has_its_object() -> None:
    assert len(SOURCES) >= 5
    assert not [source.name for source in SOURCES if not source.with_suffix(".o").exists()]


def test_objects_name_no_folder() -> None:
    # absolute paths of any machine: /home/x/..., /usr/include/..., C:\...
    absolute = re.compile(rb"(?<![\w.)])/(?:\w[\w.+-]*/)+[\w.+-]*\.[ch]\b|[A-Z]:\\\\")
    leaks = {str(path.relative_to(ROOT)): found[0] for path in OBJECTS if (found := absolute.search(path.read_bytes()))}
    assert len(OBJECTS) > 200
    assert not leaks


def test_objects_are_what_their_sources_compile_to(tmp_path: Path) -> None:
    tool = compile_bpf()
    try:
        compiler = tool.find_compiler("clang")
    except SystemExit:
        pytest.skip("no clang for BPF here")
    assert BUILT_BY
    if compiler.version != BUILT_BY[1] or not compiler.strip:
        pytest.skip(f"the objects were built by {BUILT_BY[1]}")
    for source in SOURCES:
        tool.compile_object(compiler, source, tmp_path / "out.o")
        assert (tmp_path / "out.o").read_bytes() == source.with_suffix(".o").read_bytes(), source.name


def test_folder_of_the_sources_does_not_matter(tmp_path: Path) -> None:
    tool = compile_bpf()
    try:
        compiler = tool.find_compiler()
    except SystemExit:
        pytest.skip("no compiler for BPF here")
    copy = tmp_path / "elsewhere" / SOURCES[0].name
    copy.parent.mkdir()
    copy.write_bytes(SOURCES[0].read_bytes())
    tool.compile_object(compiler, copy, tmp_path / "a.o")
    tool.compile_object(compiler, SOURCES[0], tmp_path / "b.o")
    assert (tmp_path / "a.o").read_bytes() == (tmp_path / "b.o").read_bytes()


def test_source_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "wrong.bpf.c"
    source.write_text("int f(void) { return undeclared; }\n")
    command = [sys.executable, str(ROOT / "tools" / "compile_bpf.py"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "no compiler for BPF" in done.stderr:
        pytest.skip("no compiler for BPF here")
    assert done.returncode == 1
    assert "undeclared" in done.stderr
    assert f"error: {source} does not compile for v3" in done.stderr
    assert not source.with_suffix(".o").exists()
