"""Files of maps and programs as the security modules see them: recordings bpf_map_create_hash and bpf_map_close."""

from struct import pack

from call_paths import Watched


def test_a_descriptor_has_a_file_that_goes_with_it() -> None:
    machine = Watched()

    def main(_task: object, call: object) -> None:
        call("getpid")  # type: ignore[operator]
        machine.watch()
        call("bpf", 0, pack("<IIIII", 1, 4, 8, 10, 0).ljust(72, b"\0"), 72)  # type: ignore[operator]
        call("dup", 3)  # type: ignore[operator]
        call("close", 3)  # type: ignore[operator]
        assert len(machine.kernel.maps) == 1
        call("close", 4)  # type: ignore[operator]
        machine.stop()
        assert len(machine.kernel.maps) == 0

    machine.run(main)
    wanted = ("security_file_alloc", "fd_install", "security_file_release", "bpf_map_release", "security_file_free")
    seen = [name for name in machine.calls if name in wanted]
    assert seen == ["security_file_alloc", "security_file_release", "bpf_map_release", "security_file_free"]
