"""Test runs of programs on raw tracepoints, on both kernels: expected values are Linux 6.18's."""

import pytest

from ebpfsim.uapi.bpf import ProgType as P

PASS = "r0 = 1; exit"
READS_16 = "r0 = *(u64 *)(r1 + 8); exit"


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        (READS_16, {"ctx_in": bytes(8) + b"\7" + bytes(7)}, 7),
        (READS_16, {"ctx_in": bytes(8)}, "EINVAL"),
        (PASS, {"ctx_in": bytes(96)}, 1),
        (PASS, {"ctx_in": bytes(97)}, "EINVAL"),
        (PASS, {"repeat": 1}, "EINVAL"),
        (PASS, {"data": b"x"}, "EINVAL"),
        (PASS, {"cpu": 1}, "EINVAL"),
        (PASS, {"batch_size": 1}, "EINVAL"),
        ("call bpf_get_smp_processor_id; exit", {"cpu": 1, "flags": 1}, 1),
        (PASS, {"cpu": 4096, "flags": 1}, "ENXIO"),
    ],
)
def test_raw_tracepoints(outcome, nr_cpus, text, settings, expected) -> None:
    if settings.get("cpu") == 1 and nr_cpus < 2:
        pytest.skip("one CPU")
    found = outcome(P.RAW_TRACEPOINT, text, **{"repeat": 0, **settings})
    assert (found if isinstance(found, str) else found[0]) == expected
