"""A test run and what came of it, on both kernels."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode


@pytest.fixture
def outcome(bpf):
    """Return errno, or retval and outputs, of a test run."""

    def outcome(prog_type, text="r0 = 1; exit", attach=0, data=b"", **settings):
        insns = encode(assemble(text))
        fd = bpf.prog_load(prog_type, insns, license="GPL", expected_attach_type=attach).fd
        try:
            run = bpf.prog_test_run(fd, data, **settings)
        except KernelError as error:
            return error.errno_name
        finally:
            bpf.close(fd)
        return run.retval, run.data_out.hex(), run.ctx_out.hex()

    return outcome
