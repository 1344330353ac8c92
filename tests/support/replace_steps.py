"""Steps of programs that trace or replace functions of programs, for both kernels; as a script, on a Linux to be
thrown away. Programs are those of tests/data/trampolines/targets.bpf.o.
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from ebpfsim.btf.types import Kind
from ebpfsim.errors import EbpfSimError, KernelError
from ebpfsim.loader import open_object
from ebpfsim.uapi.bpf import AttachType as A

OBJECT = Path(__file__).resolve().parents[1] / "data" / "trampolines" / "targets.bpf.o"


class Lab:
    """Targets, programs for them, and links."""

    def __init__(self, bpf: Any) -> None:
        self.bpf = bpf
        self.objects: dict[str, Any] = {}
        self.fds: dict[str, int] = {}
        self.kinds: dict[str, A] = {}
        self.links: dict[str, int] = {}
        self.names: dict[int, str] = {}

    def step(self, what: str, *args: Any) -> Any:
        """Do one step; return what came of it or the errno."""
        try:
            return getattr(self, what)(*args)
        except KernelError as error:
            return error.errno_name
        except EbpfSimError as error:
            cause = error.__cause__
            return cause.errno_name if isinstance(cause, KernelError) else str(error)
        except KeyError as error:
            return f"no {error}"

    def load(self, name: str, what: str, target: str = "") -> str:
        """Load a program of the object under a name, perhaps for another one."""
        obj = open_object(OBJECT, bpf=self.bpf)
        program = obj.programs[what]
        if target:
            program.attach_prog_fd = self.fds[target]
        obj.load(only=[what])
        self.objects[name], self.fds[name] = obj, program.fd
        self.kinds[name] = A(int(program.expected_attach_type))
        self.names[program.id] = name
        return "ok"

    def unload(self, name: str) -> str:
        """Close all descriptors of a program."""
        self.objects.pop(name).close()
        del self.fds[name]
        return "ok"

    def link(self, name: str, prog: str, target: str = "", function: str = "") -> str:
        """BPF_LINK_CREATE, perhaps with another target."""
        more = {"target_btf_id": self.objects[target].spec.btf.find(function, Kind.FUNC) or 0} if function else {}
        fd = self.fds[target] if target else 0
        self.links[name] = self.bpf.link_create(self.fds[prog], fd, self.kinds[prog], **more)
        return "ok"

    def close(self, name: str) -> str:
        """Close the descriptor of a link."""
        self.bpf.close(self.links.pop(name))
        return "ok"

    def info(self, name: str) -> list[Any]:
        """Tell a link's type, its program, attach type and target."""
        info = self.bpf.obj_get_info_by_fd(self.links[name])
        details = info.details
        return [int(info.type), self.names.get(info.prog_id, ""), details["attach_type"],
                self.names.get(details["target_obj_id"], "")]  # fmt: skip

    def run(self, name: str) -> int:
        """Run a target and tell what it returned."""
        found: int = self.bpf.prog_test_run(self.fds[name], bytes(64)).retval
        return found

    def seen(self, name: str) -> list[int]:
        """Tell what a tracer saw."""
        return list(self.objects[name].bss["seen"])[:11]

    def end(self) -> None:
        """Close everything."""
        for fd in self.links.values():
            self.bpf.close(fd)
        for obj in self.objects.values():
            with contextlib.suppress(EbpfSimError):
                obj.close()


def answers(bpf: Any, steps: list[list[Any]]) -> list[Any]:
    """Do steps and return their answers."""
    lab = Lab(bpf)
    found = [lab.step(*step) for step in steps]
    lab.end()
    return found


if __name__ == "__main__":
    from ebpfsim.live import Bpf

    linux = Bpf(confined=False)
    walks = json.loads(Path(sys.argv[1]).read_text())
    Path(os.environ.get("OUT", "."), sys.argv[2]).write_text(json.dumps([answers(linux, steps) for steps in walks]))
