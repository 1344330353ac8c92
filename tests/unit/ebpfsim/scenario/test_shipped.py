"""Names of the scenarios that ship."""

from ebpfsim.scenario.shipped import find_shipped, shipped_folder, shipped_names


def test_names_are_those_of_the_files() -> None:
    folder = shipped_folder()
    assert folder is not None
    assert set(shipped_names()) == {
        f"{path.parent.name}/{path.stem}" for path in folder.rglob("*.yaml") if path.parent.parent == folder
    }
    assert "first-steps/xdp-firewall" in shipped_names()


def test_last_part_of_a_name_is_enough() -> None:
    assert find_shipped("redirect-two-ports") == find_shipped("xdp/redirect-two-ports")
    assert find_shipped("redirect") is None
    assert find_shipped("../bpf/README") is None
