"""Objects for commands: what is no object, which programs are meant, and the host they are loaded on."""

from pathlib import Path

import pytest

from ebpfsim.cli.objects import chosen_programs, open_object, read_spec
from ebpfsim.errors import InputError

CHAIN = str(Path(__file__).resolve().parents[4] / "scenarios" / "bpf" / "parser_chain.bpf.o")


def test_a_folder_is_no_object(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, expected an object file"):
        read_spec(str(tmp_path))


def test_programs_by_their_names() -> None:
    spec = read_spec(CHAIN)
    assert chosen_programs(spec, []) == list(spec.programs)
    assert chosen_programs(spec, ["parse_tcp"]) == ["parse_tcp"]
    with pytest.raises(InputError, match="no program 'parse_tpc'; did you mean 'parse_tcp'"):
        chosen_programs(spec, ["parse_tpc"])


def test_the_host_of_an_object() -> None:
    spec = read_spec(CHAIN)
    opened, host = open_object(spec)
    assert set(opened.programs) == set(spec.programs)
    assert host.kernel.mem.objects is None
    _, debugged = open_object(spec, debug=True, engine="interp")
    assert (debugged.kernel.config.debug, debugged.kernel.config.engine) == (True, "interp")
    assert debugged.kernel.mem.objects is not None
