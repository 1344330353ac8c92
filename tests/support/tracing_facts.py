"""Facts about programs that trace: what loads, with which words it is refused, where it attaches.

A row is (kind, function, code, flags, errno, words): words of the verifier's log. ``N`` in words is the number of the
function's type.
"""

from contextlib import suppress
from typing import Any

from trace_steps import KINDS

from ebpfsim.btf.types import Kind
from ebpfsim.errors import KernelError, NotModelled, VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

SLEEPABLE = 1 << 4
ZERO, READ, RANGE = "r0 = 0; exit", "r0 = *(u64 *)(r1 + {off}); r0 = 0; exit", "should have been in "
PAST = "invalid bpf_context access off={off} size=8"
Row = tuple[str, str, str, int, str, str]
DISABLED = [
    "audit_rule_match", "getprocattr", "setprocattr", "getselfattr", "inode_copy_up_xattr", "inode_getsecurity",
    "inode_listsecurity", "inode_need_killpriv", "ismaclabel", "key_getsecurity", "vm_enough_memory",
    "xfrm_decode_session",
]  # fmt: skip
BOOLS = ["audit_rule_known", "inode_xattr_skipcap", "xfrm_state_pol_flow_match"]

LOADS: dict[str, Row] = {
    "fentry returning non-0": ("fentry", "bpf_fentry_test1", "r0 = 5; exit", 0, "EINVAL",
        f"At program exit the register R0 has smin=5 smax=5 {RANGE}[0, 0]"),
    "fexit returning non-0": ("fexit", "bpf_fentry_test1", "r0 = 5; exit", 0, "EINVAL",
        f"At program exit the register R0 has smin=5 smax=5 {RANGE}[0, 0]"),
    "fmod_ret may return anything": ("fmod_ret", "bpf_fentry_test1", "r0 = 5; exit", 0, "", ""),
    "void function: no result for fexit": ("fexit", "ksys_sync", READ.format(off=0), 0, "EACCES",
        "func 'ksys_sync' doesn't have 2-th argument"),
    "void function: off in the log": ("fexit", "ksys_sync", READ.format(off=0), 0, "EACCES", PAST.format(off=0)),
    "ctx beyond the arguments": ("fentry", "do_getpgid", READ.format(off=8), 0, "EACCES",
        "func 'do_getpgid' doesn't have 2-th argument"),
    "ctx beyond the arguments: off": ("fentry", "do_getpgid", READ.format(off=8), 0, "EACCES", PAST.format(off=8)),
    "fexit has one word more for the result": ("fexit", "do_getpgid", READ.format(off=8), 0, "", ""),
    "fexit has no second one": ("fexit", "do_getpgid", READ.format(off=16), 0, "EACCES", PAST.format(off=16)),
    "4-byte read of an int argument": ("fentry", "do_getpgid", "r0 = *(u32 *)(r1 + 0); r0 = 0; exit", 0, "", ""),
    "write to ctx": ("fentry", "do_getpgid", "*(u64 *)(r1 + 0) = 0; r0 = 0; exit", 0, "EACCES", PAST.format(off=0)),
    "get_func_ret in fentry loads": ("fentry", "do_getpgid",
        "r2 = r10; r2 += -8; *(u64 *)(r10 - 8) = 0; call bpf_get_func_ret; r0 = 0; exit", 0, "", ""),
    "variadic _printk": ("fentry", "_printk", ZERO, 0, "EINVAL",
        "The function _printk with variable args is unsupported."),
    "variadic snprintf": ("fentry", "snprintf", ZERO, 0, "EINVAL",
        "The function snprintf with variable args is unsupported."),
    "denylist migrate_disable": ("fentry", "migrate_disable", ZERO, 0, "EINVAL", ""),
    "sleepable do_getpgid": ("fentry", "do_getpgid", ZERO, SLEEPABLE, "EINVAL", "do_getpgid is not sleepable"),
    "sleepable __x64_sys_getpgid": ("fentry", "__x64_sys_getpgid", ZERO, SLEEPABLE, "EINVAL",
        "__x64_sys_getpgid is not sleepable"),
    "sleepable security_task_getpgid": ("fentry", "security_task_getpgid", ZERO, SLEEPABLE, "EINVAL",
        "security_task_getpgid is not sleepable"),
    "sleepable bpf_fentry_test1 ok": ("fentry", "bpf_fentry_test1", ZERO, SLEEPABLE, "", ""),
    "fmod_ret do_getpgid": ("fmod_ret", "do_getpgid", ZERO, 0, "EINVAL", "do_getpgid() is not modifiable"),
    "fmod_ret tcp_v4_connect": ("fmod_ret", "tcp_v4_connect", ZERO, 0, "EINVAL", "tcp_v4_connect() is not modifiable"),
    "fmod_ret security_task_getpgid ok": ("fmod_ret", "security_task_getpgid", ZERO, 0, "", ""),
    "fmod_ret bpf_modify_return_test ok": ("fmod_ret", "bpf_modify_return_test", ZERO, 0, "", ""),
    "bpf_get_func_ip in tp_btf": ("tp_btf", "btf_trace_sys_enter", "call bpf_get_func_ip; r0 = 0; exit", 0, "ENOTSUPP",
        "func bpf_get_func_ip#173 supported only for fentry/fexit/fmod_ret programs"),
    "bpf_d_path in fentry/do_getpgid": ("fentry", "do_getpgid",
        "r1 = *(u64 *)(r1 + 0); r2 = r10; r2 += -8; r3 = 8; call bpf_d_path; r0 = 0; exit", 0, "EINVAL",
        "helper call is not allowed in probe"),
    "bpf_copy_from_user in a program that may not sleep": ("fentry", "do_getpgid",
        "r1 = r10; r1 += -8; r2 = 8; r3 = 0; call bpf_copy_from_user; r0 = 0; exit", 0, "EINVAL",
        "helper call might sleep in a non-sleepable prog"),
    "a function for tp_btf": ("tp_btf:func", "do_getpgid", ZERO, 0, "EINVAL", "attach_btf_id N is not a typedef"),
    "a typedef for fentry": ("fentry:typedef", "btf_trace_sys_enter", ZERO, 0, "EINVAL",
        "attach_btf_id N is not a function"),
    "no function": ("fentry:0", "", ZERO, 0, "EINVAL", "Tracing programs must provide btf_id"),
    "a type that is no function": ("fentry:1", "", ZERO, 0, "EINVAL", "attach_btf_id 1 is not a function"),
    "no such type": ("fentry:999999999", "", ZERO, 0, "EINVAL", ""),
    "lsm int hooks return [-4095, 0]": ("lsm", "bpf_lsm_file_open", "r0 = 1; exit", 0, "EINVAL",
        f"At program exit the register R0 has smin=1 smax=1 {RANGE}[-4095, 0]"),
    "lsm int hooks: -4096": ("lsm", "bpf_lsm_file_open", "r0 = -4096; exit", 0, "EINVAL",
        f"At program exit the register R0 has smin=-4096 smax=-4096 {RANGE}[-4095, 0]"),
    "lsm void hooks return anything": ("lsm", "bpf_lsm_task_free", "r0 = 77; exit", 0, "", ""),
    "lsm hook that sleeps": ("lsm", "bpf_lsm_file_open", ZERO, SLEEPABLE, "", ""),
    "lsm hook that may not sleep": ("lsm", "bpf_lsm_task_free", ZERO, SLEEPABLE, "EINVAL",
        "bpf_lsm_task_free is not sleepable"),
    "not a hook": ("lsm", "bpf_lsm_verify_prog", ZERO, 0, "EINVAL",
        "attach_btf_id N points to wrong type name bpf_lsm_verify_prog"),
    "raw_tp: 12 words": ("raw_tp", "", READ.format(off=88), 0, "", ""),
    "raw_tp: no 13th": ("raw_tp", "", READ.format(off=96), 0, "EACCES", PAST.format(off=96)),
}  # fmt: skip
for _hook in DISABLED:
    _words = f"attach_btf_id N points to disabled hook bpf_lsm_{_hook}"
    LOADS[f"disabled hook {_hook}"] = ("lsm", f"bpf_lsm_{_hook}", ZERO, 0, "EINVAL", _words)
for _hook in BOOLS:
    _words = f"At program exit the register R0 has smin=-1 smax=-1 {RANGE}[0, 1]"
    LOADS[f"bool-like hook {_hook}"] = ("lsm", f"bpf_lsm_{_hook}", "r0 = -1; exit", 0, "EINVAL", _words)
    LOADS[f"bool-like hook {_hook} may return 1"] = ("lsm", f"bpf_lsm_{_hook}", "r0 = 1; exit", 0, "", "")

# what LINK_CREATE says of functions that programs load for
SITES = {
    **dict.fromkeys(
        ["__schedule", "exc_page_fault", "memcpy", "do_syscall_64", "bpf_spin_lock", "bpf_get_current_task",
         "trace_call_bpf", "__bpf_prog_enter"], "EBUSY",
    ),
    "int3_exception_notify": "EINVAL",
    **dict.fromkeys(
        ["schedule", "do_exit", "tcp_v4_rcv", "bpf_map_lookup_elem", "x64_sys_call", "bpf_lsm_file_open",
         "bpf_dispatcher_xdp_func", "bpf_fentry_test1"], "ok",
    ),
}  # fmt: skip


def load(kernel: Any, row: Row) -> tuple[str, str]:
    """Load a program; return the errno and the log, with ``N`` for the number of the function's type."""
    kind, function, code, flags, _, _ = row
    word, _, special = kind.partition(":")
    prog_type, attach_type = KINDS[word]
    types = {"func": Kind.FUNC, "typedef": Kind.TYPEDEF, "": Kind.TYPEDEF if word == "tp_btf" else Kind.FUNC}
    found = int(special) if special.isdigit() else kernel.btf.find(function, types[special]) if function else 0
    attributes = {"attach_btf_id": found} if prog_type in (P.TRACING, P.LSM) else {}
    try:
        fd = kernel.bpf.prog_load(
            prog_type, encode(assemble(code)), expected_attach_type=attach_type, prog_flags=flags, log_level=1,
            **attributes,
        ).fd  # fmt: skip
    except VerifierError as error:
        return error.errno_name, error.log.replace(f"attach_btf_id {found} points", "attach_btf_id N points").replace(
            f"attach_btf_id {found} is", "attach_btf_id N is" if not special.isdigit() else f"attach_btf_id {found} is"
        )
    except KernelError as error:
        return error.errno_name, ""
    kernel.bpf.close(fd)
    return "", ""


def site(kernel: Any, function: str) -> str:
    """Attach a program to a function; return the errno."""
    number = kernel.btf.find(function, Kind.FUNC)
    if number is None:
        return "not there"
    code = encode(assemble(ZERO))
    fd = kernel.bpf.prog_load(P.TRACING, code, expected_attach_type=A.TRACE_FENTRY, attach_btf_id=number).fd
    try:
        kernel.bpf.close(kernel.bpf.link_create(fd, 0, A.TRACE_FENTRY))
    except NotModelled:
        return "not modelled"
    except KernelError as error:
        return error.errno_name
    finally:
        with suppress(KernelError):
            kernel.bpf.close(fd)
    return "ok"


def answers(kernel: Any) -> dict[str, Any]:
    """Ask everything."""
    found: dict[str, Any] = {name: load(kernel, row) for name, row in LOADS.items()}
    return found | {f"site {name}": site(kernel, name) for name in SITES}


def differences(found: dict[str, Any]) -> list[str]:
    """Return what is not as the facts say."""
    wrong = []
    for name, (_, _, _, _, errno, words) in LOADS.items():
        said, log = found[name]
        if said != errno or words not in log:
            wrong.append(f"{name}: {said} {log}")
    for name, want in SITES.items():
        said = found[f"site {name}"]
        # programs attach to functions that are called here
        if said not in (want, "not there") and (said, want) != ("not modelled", "ok"):
            wrong.append(f"site {name}: {said}")
    return wrong
