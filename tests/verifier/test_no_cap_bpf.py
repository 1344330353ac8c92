"""Programs of the corpus as socket filters of a task without capabilities (kernel.unprivileged_bpf_disabled=0).

Linux 6.12 was asked: verdict, errno, the line that gives the reason, and instructions processed.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from runner import Kernel, load_attr, read_corpus, read_lines

from ebpfsim.errnos import errno_name
from ebpfsim.errors import VerifierError
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.env import Privileges
from ebpfsim.verifier.verify import verify

CORPUS = Path(__file__).resolve().parents[1] / "data" / "corpus"
MAY = Privileges(bpf_capable=False, allow_ptr_leaks=False, bypass_spec=False)
# Linux since 6.16 takes what only a mispredicted branch would do wrong, and puts a barrier there ("bpf: Fall back to
# nospec for spec path verification"); 6.12 refused it
BEHIND_A_BARRIER = frozenset(
    f"raw/{name}"
    for name in ("jmp32/380", "jmp32/383", "jmp32/386", "jmp32/389", "jmp32/395", "jmp32/401", "jmp32/404")
) | {"raw/jset/418", "raw/jset/419", "raw/jump/431"}
# bpf_get_cgroup_classid() was not built into the kernel that was asked
WITHOUT_CLASSID = frozenset({"raw/basic_call/82", "raw/jmp32/408", "raw/jmp32/409"})
# 6.12 looked at fewer or more states of these, with all capabilities as well
OTHER_COUNTS = frozenset({"raw/precise/494", "raw/precise/495"})


def judge(record: dict[str, Any]) -> dict[str, Any]:
    if record["prog_type"] != ProgType.CGROUP_SKB:
        record = {**record, "prog_type": ProgType.SOCKET_FILTER, "expected_attach_type": 0, "attach_btf_id": 0}
    kernel = Kernel(record)
    for map_ in kernel.maps:
        map_.bypass_spec = False
    try:
        verified = verify(replace(load_attr(record, 1), privileges=MAY), kernel)
    except VerifierError as error:
        *_, reason = (line for line in error.log.splitlines() if not line.startswith("processed"))
        return {"verdict": "reject", "errno": errno_name(error.errno), "reason": reason, "processed": error.log}
    return {"verdict": "accept", "processed": verified.log}


def test_all_is_as_on_linux() -> None:
    records = {record["id"]: record for record in read_corpus(CORPUS / "verifier-open.jsonl.xz")}
    wrong, verdicts = [], []
    for judged in read_lines(CORPUS / "no-cap-bpf.jsonl.xz"):
        name = judged.pop("id")
        if name in WITHOUT_CLASSID:
            continue
        found = judge(records[name])
        processed = f"processed {judged.pop('processed')} insns"
        log = found.pop("processed")
        if name in BEHIND_A_BARRIER:
            judged = {"verdict": "accept"}
        elif name not in OTHER_COUNTS and processed not in log:
            wrong.append((name, processed, log))
        verdicts.append(found["verdict"])
        if found != judged:
            wrong.append((name, judged, found))
    assert not wrong
    assert (verdicts.count("accept"), verdicts.count("reject")) == (88, 164)
