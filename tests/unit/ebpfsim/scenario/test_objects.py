"""Objects of scenarios: files and inline assembly, with their names; errors at the place in the text."""

from pathlib import Path

import pytest

from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import Int
from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.document import compose
from ebpfsim.scenario.objects import place_in, read_block, read_types
from ebpfsim.scenario.schema import ObjectBlock
from ebpfsim.scenario.source import Source
from ebpfsim.uapi.bpf import ProgType

BPF = Path(__file__).resolve().parents[4] / "scenarios" / "bpf"


def test_file() -> None:
    node = compose(Source("x.yaml", "{host: h, file: parser_chain.bpf.o}"))
    found = read_block("chain", ObjectBlock(host="h", file="parser_chain.bpf.o"), node, BPF)
    assert found.programs == ["parse_ipv4", "parse_tcp", "parse_udp", "parse_icmp", "parse_eth"]
    assert {"parsers", "scratch", "drops", "passed"} <= set(found.maps)


def test_assembly() -> None:
    node = compose(Source("x.yaml", "{host: h, type: xdp, asm: 'r0 = 2; exit'}"))
    found = read_block("nop", ObjectBlock(host="h", type="xdp", asm="r0 = 2; exit"), node, BPF)
    assert (found.programs, list(found.maps), found.prog_type, len(found.insns)) == (["nop"], [], ProgType.XDP, 2)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{asm: "r0 = 2; exot"}', "x.yaml:1:16"),
        ("{asm: 'r0 = 2; exot'}", "x.yaml:1:16"),
        ("asm: r0 = 2; exot", "x.yaml:1:14"),
        # text that is not one to one with the file: its beginning
        ("asm: |\n  r0 = 2\n  exot\n", "x.yaml:1:6"),
        ('{asm: "r0 \\x3d 2; exot"}', "x.yaml:1:7"),
    ],
)
def test_place_of_an_error_in_assembly(text: str, where: str) -> None:
    node = compose(Source("x.yaml", text))
    asm = node.find(("asm",)).value
    assert isinstance(asm, str)
    with pytest.raises(ScenarioError, match="object 'p': unknown word 'exot'; did you mean 'exit'") as caught:
        read_block("p", ObjectBlock(host="h", type="xdp", asm=asm), node, BPF)
    assert caught.value.where == where


def test_program_without_instructions() -> None:
    node = compose(Source("x.yaml", "{asm: ' '}"))
    with pytest.raises(ScenarioError, match="object 'p': program has no instructions"):
        read_block("p", ObjectBlock(host="h", type="xdp", asm=" "), node, BPF)


def test_place_in_text_with_two_lines() -> None:
    node = compose(Source("x.yaml", "a: >\n  one\n  two\n")).find(("a",))
    assert place_in(node, 4, 3) is node


def test_types_of_another_kernel(tmp_path: Path) -> None:
    place = compose(Source("x.yaml", "{btf: other.btf}")).find(("btf",))
    (tmp_path / "other.btf").write_bytes(encode_types([Int("int", 4, 32)]))
    assert read_types("other.btf", place, tmp_path).nr_types == 2
    with pytest.raises(ScenarioError, match=r"x\.yaml:1:7: error: btf: file 'missing\.btf' does not exist"):
        read_types("missing.btf", place, tmp_path)
    (tmp_path / "cut.btf").write_bytes(encode_types([Int("int", 4, 32)])[:30])
    with pytest.raises(ScenarioError, match=r"x\.yaml:1:7: error: btf: cut\.btf: "):
        read_types("cut.btf", place, tmp_path)
