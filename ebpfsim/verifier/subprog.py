"""Functions of a program: where they start, what BTF says of them (check_subprogs(), check_btf_info(), v6.18)."""

from struct import Struct

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import DeclTag, Enum, Func, FuncProto, Int, Kind
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32
from ebpfsim.verifier.env import BPF_LOG_LEVEL2, Env, LineInfo, SubprogInfo
from ebpfsim.verifier.kfunc import add_kfunc_call
from ebpfsim.verifier.opcodes import (
    BPF_ABS,
    BPF_CALL,
    BPF_EXIT,
    BPF_IND,
    BPF_JMP,
    BPF_JMP32,
    BPF_LD,
    EXIT,
    JA,
    JA32,
    helper_call,
    jmp_offset,
    pseudo_call,
    pseudo_func,
    pseudo_kfunc_call,
)

__all__ = ["add_subprogs", "check_btf_info", "check_btf_info_early", "check_subprogs", "find_subprog"]

BPF_MAX_SUBPROGS = 256
BPF_FUNC_tail_call = 12
BTF_FUNC_STATIC, BTF_FUNC_GLOBAL = 0, 1
_FUNC_INFO = Struct("<II")
_LINE_INFO = Struct("<IIII")
_CALLBACK_TAG = "exception_callback:"


def find_subprog(env: Env, idx: int) -> int:
    """Return the number of the function that starts at an instruction, or -1."""
    return env.subprog_at.get(idx, -1)


def add_subprogs(env: Env) -> None:
    """Find the functions: everything that is called or whose address is taken (``add_subprog_and_kfunc``)."""
    starts = {0}
    try:
        _find_starts(env, starts)
    finally:
        env.subprogs += [SubprogInfo(start) for start in sorted(starts)]
    env.subprog_at.update((subprog.start, number) for number, subprog in enumerate(env.subprogs))
    _fill_subprog_of(env)
    if env.exception_callback:
        env.exception_callback = find_subprog(env, env.exception_callback)
        info = env.subprogs[env.exception_callback]
        info.is_cb = info.is_async_cb = True
    if env.log_level & BPF_LOG_LEVEL2:
        for number, subprog in enumerate(env.subprogs):
            env.verbose(f"func#{number} @{subprog.start}\n")


def _find_starts(env: Env, starts: set[int]) -> None:
    count = len(env.insns)
    for i, insn in enumerate(env.insns):
        if not env.bpf_capable and (pseudo_kfunc_call(insn) or pseudo_func(insn) or pseudo_call(insn)):
            text = "loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN\n"
            raise env.fail(Errno.EPERM, text)
        if pseudo_kfunc_call(insn):
            add_kfunc_call(env, insn)
            continue
        if not pseudo_func(insn) and not pseudo_call(insn):
            continue
        start = i + insn.imm + 1
        if not 0 <= start < count:
            raise env.fail(Errno.EINVAL, "call to invalid destination\n")
        if start not in starts and len(starts) >= BPF_MAX_SUBPROGS:
            raise env.fail(Errno.E2BIG, "too many subprograms\n")
        starts.add(start)
    callback = _exception_callback_start(env)
    if callback >= count:
        raise env.fail(Errno.EINVAL, "call to invalid destination\n")
    starts.add(callback)
    env.exception_callback = callback


def _named_callbacks(btf: Btf, main: int) -> list[str]:
    names = []
    for tag_id in btf.ids_of_kind(Kind.DECL_TAG):
        tag = btf.type(tag_id)
        assert isinstance(tag, DeclTag)
        if tag.type_id == main and tag.component_idx == -1 and tag.name.startswith(_CALLBACK_TAG):
            names.append(tag.name.removeprefix(_CALLBACK_TAG))
    return names


def _exception_callback_start(env: Env) -> int:
    # where the callback that the main function names starts, or 0 (bpf_find_exception_callback_insn_off)
    btf, records = env.attr.btf, list(_FUNC_INFO.iter_unpack(env.attr.func_info))
    if btf is None or not records:
        return 0
    names = _named_callbacks(btf, records[0][1])
    if not names:
        return 0
    if len(names) > 1:
        raise env.fail(Errno.EEXIST, "multiple exception callback tags for main subprog\n")
    (name,) = names
    func_id = btf.find(name, Kind.FUNC)
    if not func_id:
        raise env.fail(Errno.ENOENT, f"exception callback '{name}' could not be found in BTF\n")
    func = btf.type(func_id)
    assert isinstance(func, Func)
    if func.linkage != BTF_FUNC_GLOBAL:
        raise env.fail(Errno.EINVAL, f"exception callback '{name}' must have global linkage\n")
    starts = [start for start, type_id in records if type_id == func_id]
    if 0 in starts:
        raise env.fail(Errno.EINVAL, "invalid exception callback insn_off in func_info: 0\n")
    if not starts:
        raise env.fail(Errno.EINVAL, "exception callback type id not found in func_info\n")
    return int(starts[-1])


def _fill_subprog_of(env: Env) -> None:
    # for each instruction the number of its function
    ends = [subprog.start for subprog in env.subprogs[1:]] + [len(env.insns)]
    for number, (subprog, end) in enumerate(zip(env.subprogs, ends, strict=True)):
        env.subprog_of += [number] * (end - subprog.start)


def subprog_end(env: Env, number: int) -> int:
    """Return the slot after a function."""
    return env.subprogs[number + 1].start if number + 1 < len(env.subprogs) else len(env.insns)


def check_subprogs(env: Env) -> None:
    """Refuse jumps from one function into another (``check_subprogs``)."""
    for number, subprog in enumerate(env.subprogs):
        end = subprog_end(env, number)
        for i in range(subprog.start, end):
            insn = env.insns[i]
            code = insn.code
            if helper_call(insn) and insn.imm == BPF_FUNC_tail_call:
                subprog.has_tail_call = subprog.tail_call_reachable = True
            if code & 7 == BPF_LD and code & 0xE0 in (BPF_ABS, BPF_IND):
                subprog.has_ld_abs = True
            if code & 7 in (BPF_JMP, BPF_JMP32) and code & 0xF0 == BPF_EXIT:
                subprog.exit_idx = i
            elif code & 7 in (BPF_JMP, BPF_JMP32) and code & 0xF0 != BPF_CALL:
                off = i + jmp_offset(insn) + 1
                if not subprog.start <= off < end:
                    raise env.fail(Errno.EINVAL, f"jump out of range from insn {i} to {off}\n")
            if i == end - 1 and code not in (EXIT, JA, JA32):
                raise env.fail(Errno.EINVAL, "last insn is not an exit or jmp\n")


def _check_abnormal_return(env: Env) -> None:
    # check_abnormal_return
    for subprog in env.subprogs[1:]:
        if subprog.has_ld_abs:
            raise env.fail(Errno.EINVAL, "LD_ABS is not allowed in subprogs without BTF\n")
        if subprog.has_tail_call:
            raise env.fail(Errno.EINVAL, "tail_call is not allowed in subprogs without BTF\n")


def check_btf_info_early(env: Env) -> None:
    """Check func_info against the program's BTF before functions are known (``check_btf_func_early``)."""
    btf = env.attr.btf
    if not env.attr.func_info and not env.attr.line_info:
        return
    if btf is None:
        raise env.fail(Errno.EINVAL, "")
    prev = 0
    for i, (insn_off, type_id) in enumerate(_FUNC_INFO.iter_unpack(env.attr.func_info)):
        if i == 0 and insn_off:
            raise env.fail(Errno.EINVAL, f"nonzero insn_off {insn_off} for the first func info record")
        if i and insn_off <= prev:
            text = f"same or smaller insn offset ({insn_off}) than previous func info record ({prev})"
            raise env.fail(Errno.EINVAL, text)
        if not 0 < type_id < btf.nr_types or not isinstance(btf.type(type_id), Func):
            raise env.fail(Errno.EINVAL, f"invalid type id {s32(type_id)} in func info")
        prev = insn_off


def check_btf_info(env: Env) -> None:
    """Tie func_info and line_info to the functions (``check_btf_info``)."""
    if not env.attr.func_info and not env.attr.line_info:
        _check_abnormal_return(env)
        return
    _check_btf_func(env)
    _check_btf_line(env)


def _check_btf_func(env: Env) -> None:
    records = list(_FUNC_INFO.iter_unpack(env.attr.func_info))
    if not records:
        _check_abnormal_return(env)
        return
    if len(records) != len(env.subprogs):
        raise env.fail(Errno.EINVAL, "number of funcs in func_info doesn't match number of subprogs\n")
    btf = env.attr.btf
    assert btf is not None
    for i, (subprog, (insn_off, type_id)) in enumerate(zip(env.subprogs, records, strict=True)):
        if subprog.start != insn_off:
            text = "func_info BTF section doesn't match subprog layout in BPF program\n"
            raise env.fail(Errno.EINVAL, text)
        func = btf.type(type_id)
        assert isinstance(func, Func)
        subprog.type_id, subprog.name, subprog.linkage = type_id, func.name, int(func.linkage)
        proto = btf.type(func.type_id)
        assert isinstance(proto, FuncProto)
        ret = btf.resolved(proto.type_id) if proto.type_id else None
        scalar_return = (isinstance(ret, Int) and ret.size in (1, 2, 4, 8)) or isinstance(ret, Enum)
        if i and not scalar_return and subprog.has_ld_abs:
            raise env.fail(Errno.EINVAL, "LD_ABS is only allowed in functions that return 'int'.\n")
        if i and not scalar_return and subprog.has_tail_call:
            raise env.fail(Errno.EINVAL, "tail_call is only allowed in functions that return 'int'.\n")


def _check_btf_line(env: Env) -> None:
    # check_btf_line
    lines = [LineInfo(*record) for record in _LINE_INFO.iter_unpack(env.attr.line_info)]
    if not lines:
        return
    btf = env.attr.btf
    assert btf is not None
    prev, s, count = 0, 0, len(env.insns)
    for i, line in enumerate(lines):
        off = line.insn_off
        if (i and off <= prev) or off >= count:
            text = f"Invalid line_info[{i}].insn_off:{off} (prev_offset:{prev} prog->len:{count})\n"
            raise env.fail(Errno.EINVAL, text)
        if not env.insns[off].code:
            raise env.fail(Errno.EINVAL, f"Invalid insn code at line_info[{i}].insn_off\n")
        if not (btf.has_string(line.line_off) and btf.has_string(line.file_name_off)):
            raise env.fail(Errno.EINVAL, f"Invalid line_info[{i}].line_off or .file_name_off\n")
        if s != len(env.subprogs):
            if off == env.subprogs[s].start:
                s += 1
            elif env.subprogs[s].start < off:
                raise env.fail(Errno.EINVAL, f"missing bpf_line_info for func#{s}\n")
        prev = off
    if s != len(env.subprogs):
        text = f"missing bpf_line_info for {len(env.subprogs) - s} funcs starting from func#{s}\n"
        raise env.fail(Errno.EINVAL, text)
    env.linfo = lines
    current, table = 0, []
    for i in range(count):
        if current + 1 < len(lines) and lines[current + 1].insn_off <= i:
            current += 1
        table.append(lines[current])
    env.linfo_of = list(table)
