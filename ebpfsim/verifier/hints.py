"""What to write instead: hints for refusals, by the words of the kernel's message.

The first pattern that one of the last lines of a log matches decides. A hint is a text with ``{names}`` of the
pattern's groups, or a function of what was found.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ebpfsim.verifier.trail import Trail

__all__ = ["HINTS", "Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A message that a pattern matched, and the path that led to it."""

    trail: Trail
    match: re.Match[str] | None

    def group(self, name: str) -> str:
        """Return what a group of the pattern matched."""
        return self.match[name] if self.match is not None else ""

    def made(self, regno: int) -> str:
        """Return where a register's value was made, in words for a sentence; nothing when it is not known."""
        history = self.trail.history(regno)
        if not history:
            return ""
        first = history[0]
        what = first.what if first.what.startswith("result of") else ""
        place = f" ({first.step.place})" if first.step.place.file else ""
        return f"{what}{place}" if what else ""


Build = Callable[[Finding], str]

# how to name a pointer that may be NULL
_SOURCES = {
    "map_value": "bpf_map_lookup_elem() gives NULL when there is no such key",
    "sock": "there may be no socket",
    "sock_common": "there may be no socket",
    "tcp_sock": "the socket may be no TCP socket",
    "mem": "there may be no memory left, or the range may not fit",
    "ringbuf_mem": "bpf_ringbuf_reserve() gives NULL when the ring is full",
    "rcu_ptr_": "the object may be gone",
    "ptr_": "the pointer may lead nowhere",
}


def _or_null(found: Finding) -> str:
    kind = found.group("kind")
    why = next((text for name, text in _SOURCES.items() if kind.startswith(name)), "the pointer may be NULL")
    made = found.made(int(found.group("reg")))
    subject = f"The {made} may be NULL" if made else "The pointer may be NULL"
    return (
        f"{subject}: {why}.\n"
        "Test it before this line on every path: if (!ptr) return 0;  and test it before any ptr + offset, too."
    )


def _scalar(found: Finding) -> str:
    regno = int(found.group("reg"))
    history = found.trail.history(regno)
    if history and "scratches" in history[0].what:
        return "The value was in a register that a call scratches. Keep what is needed across calls in a variable."
    texts = [step.text for step in found.trail.steps]
    if any("bpf_ringbuf_submit" in text or "bpf_ringbuf_discard" in text for text in texts):
        return "After bpf_ringbuf_submit() or _discard() the record is gone. Read and write it before, not after."
    if any(_CHANGES.search(text) for text in texts) and _was_packet(found):
        return (
            "A call before it may have moved the packet, so pointers into it are void.\n"
            "After the call read ctx->data and ctx->data_end again and repeat the bounds check."
        )
    if any("_release" in text for text in texts):
        return "After the release of an object its pointer is void. Use it before it is released."
    return (
        "This is a number to the verifier, no pointer: it came out of arithmetic, a cast, or memory that holds no\n"
        "pointers. Kernel memory is read by bpf_probe_read_kernel() or, with BTF types, BPF_CORE_READ()."
    )


_CHANGES = re.compile(
    r"call bpf_(xdp_adjust|skb_(pull|change|vlan|store|adjust)|clone_redirect|msg_|l[34]_csum|tail_call)"
)


def _was_packet(found: Finding) -> bool:
    return any("pkt" in value for step in found.trail.steps for value in step.state.values())


def _packet(found: Finding) -> str:
    step = found.trail.last
    need = re.search(r"off=(?P<off>-?\d+) size=(?P<size>\d+), R\d+\(id=(?P<id>\d+),off=-?\d+,r=(?P<range>\d+)\)",
                     "\n".join(found.trail.messages))  # fmt: skip
    text = "Compare with data_end before this line, with the very pointer that is read"
    if need is None:
        return text + ": if (ptr + sizeof(*ptr) > data_end) return 1;"
    end, known = int(need["off"]) + int(need["size"]), int(need["range"])
    proved = f"{known} bytes are proved to be there" if known else "nothing is proved to be there"
    checks = [each for each in found.trail.decisions() if "pkt_end" in " ".join(each.state.values())]
    hint = f"The access needs {end} bytes from this pointer, {proved}.\n"
    if found.trail.value(f"R{found.group('reg')}").startswith("pkt_meta"):
        hint += f"Metadata ends where the packet begins: if (meta + {end} > data) return 1;  with data = ctx->data."
    elif need["id"] != "0":
        hint += "The pointer has a variable part: bound that to a few thousand first (x &= 0xff, or if (x > 255)),\n"
        hint += "then compare the same pointer: if (ptr + N > data_end) return 1;  data + x computed twice is another."
    elif known and checks:
        hint += f"The check at {checks[-1].place} is too short: compare up to the end of what is read here,\n"
        hint += f"for instance if (data + {end} > data_end) return 1;  or with the size of the whole header."
    else:
        hint += f"Before this line: if (data + {end} > data_end) return 1;  or with the size of the whole header."
    return hint if step is not None else text


def _bounds(found: Finding) -> str:
    size = re.search(r"value_size=(\d+)", "\n".join(found.trail.messages))
    limit = f" (the value has {size[1]} bytes)" if size else ""
    index = found.trail.added(int(found.match["reg"])) if found.match and "reg" in found.match.groupdict() else None
    made = f", R{index[1]} below," if index else ""
    return (
        f"The index or offset{made} is not proved to be inside{limit}.\n"
        "Test it before the use, as unsigned: if (i >= N) return 0;  or cut it: i &= N - 1; (N a power of two).\n"
        "If the test is there, the compiler may have tested a copy: make i a __u32 or __u64, and test i itself."
    )


def _negative(found: Finding) -> str:
    return (
        "The value may be negative: it is signed, and only its upper limit is tested.\n"
        "Make the variable unsigned (__u32), or test both ends: if (i < 0 || i >= N) return 0;"
    )


def _outside_value(found: Finding) -> str:
    need = re.search(r"value_size=(\d+) off=(-?\d+) size=(\d+)", "\n".join(found.trail.messages))
    if need is None:
        return _bounds(found)
    size, off, width = int(need[1]), int(need[2]), int(need[3])
    return (
        f"The access is to bytes {off} to {off + width - 1} of a value of {size}.\n"
        "Is the index one too many, the loop's end <= instead of <, or the map's value_size another type's?"
    )


def _leak(found: Finding) -> str:
    texts = [step for step in found.trail.steps if step.text.startswith("call ")]
    for names, release, what in _PAIRS:
        taken = [step for step in texts if any(name in step.text for name in names)]
        if taken:
            line = f" (taken at {taken[-1].place})" if taken[-1].place.file else ""
            return f"On this path {what}{line} is not given back. Before each way out: {release}."
    return "On this path an object that was taken is not released. Release it before each return, tail call, or throw."


_PAIRS = (
    (("bpf_ringbuf_reserve_dynptr",), "bpf_ringbuf_submit_dynptr(&d, 0) or bpf_ringbuf_discard_dynptr(&d, 0), also"
     " where the reserve failed", "the ring buffer's dynptr"),
    (("bpf_ringbuf_reserve",), "bpf_ringbuf_submit(r, 0) or bpf_ringbuf_discard(r, 0)", "the ring buffer's record"),
    (("bpf_sk_lookup_tcp", "bpf_sk_lookup_udp", "bpf_skc_lookup_tcp", "bpf_map_lookup_elem"), "bpf_sk_release(sk)",
     "the socket"),
    (("bpf_obj_new",), "bpf_obj_drop(p), or put it into a list, a tree or a kptr", "the new object"),
    (("bpf_task_acquire", "bpf_task_from_pid"), "bpf_task_release(p)", "the task"),
    (("bpf_cgroup_acquire", "bpf_cgroup_from_id"), "bpf_cgroup_release(p)", "the cgroup"),
    (("bpf_cpumask_create", "bpf_cpumask_acquire"), "bpf_cpumask_release(p)", "the mask"),
    (("bpf_iter_",), "the iterator's destroy function (bpf_for() and bpf_for_each() do that)", "the iterator"),
    (("bpf_kptr_xchg",), "the type's release function, or put it back by bpf_kptr_xchg()", "what was in the kptr"),
)  # fmt: skip


def _return_range(found: Finding) -> str:
    have = re.sub(r"smin=(-?\d+) smax=\1$", r"\1", found.group("have").strip())
    return (
        f"It may return {have}, allowed is only {found.group('want')}.\n"
        "Return one of these numbers on every path; of a computed value test or cut the range first."
    )


def _ctx_access(found: Finding) -> str:
    step = found.trail.last
    writes = step is not None and step.text.startswith("*(")
    if writes:
        return "This field of the context cannot be written by programs of this type, or not at this width."
    return (
        "There is no field of the context here that programs of this type may read, or not at this width.\n"
        "Read whole fields by their names (ctx->data); which there are depends on the program type (its section)."
    )


def _stack_read(found: Finding) -> str:
    return (
        "Some of these stack bytes were never written on this path: padding of a struct counts, too.\n"
        "Initialise the whole variable: struct key k = {};  or __builtin_memset(&k, 0, sizeof(k));\n"
        "and see that the buffer is as large as the map's key_size, value_size or the length argument says."
    )


def _not_ok(found: Finding) -> str:
    regno = found.group("reg")
    if regno == "0":
        return "The program ends without a return value on this path. Return a number everywhere (no empty asm path)."
    if any(step.text.startswith("call ") for step in found.trail.steps[:-1]):
        return "Nothing is in this register: calls scratch R1 to R5. In C: a variable is used before it gets a value."
    return "A variable is used that has no value on this path. Initialise it where it is declared."


def _type(found: Finding) -> str:
    have, want = found.group("have"), found.group("want")
    if have.endswith("_or_null"):
        return "The argument may be NULL here. Test it first: if (!ptr) return 0;"
    if have == "scalar":
        return (
            f"The argument is a number to the verifier; the function wants a pointer of the kind {want}.\n"
            "Has the pointer been through arithmetic, a cast, an untyped field, or a call that made it void?"
        )
    return f"The argument points to {have}; the function wants {want}. Is it the wrong variable, or a missing &?"


def _helper(found: Finding) -> str:
    return (
        f"{found.group('name')}() is not for programs of this type. Use the type (SEC) that has it, or the helper\n"
        "that this type has for the purpose: `ebpfsim features` and bpf-helpers(7) say which."
    )


_TABLE: tuple[tuple[str, str | Build], ...] = (
    # pointers that may be NULL
    (r"R(?P<reg>\d+) invalid mem access '(?P<kind>\S+_or_null\S*)'", _or_null),
    (r"R(?P<reg>\d+) pointer arithmetic on (?P<kind>\S+_or_null\S*) prohibited", _or_null),
    (r"Possibly NULL pointer passed to", "The argument may be NULL here. Test it before the call: if (!ptr) return 0;"),
    (r"type=(?P<have>\S+) expected=(?P<want>.+)$", _type),
    # packets
    (r"R(?P<reg>\d+) offset is outside of the packet", _packet),
    (r"invalid access to packet", _packet),
    (r"pointer arithmetic on pkt_end prohibited", "data_end is only for comparisons. Compute from data: data + n."),
    (r"R(?P<reg>\d+) invalid mem access 'pkt_end'", "Nothing may be read at data_end. Read from data, below it."),
    (
        r"the prog does not allow writes to packet data",
        "Programs of this type read packets only. Change them in tc or XDP, or by bpf_skb_store_bytes().",
    ),
    # ranges
    (r"min value is negative", _negative),
    (r"with unbounded min value is not allowed", _negative),
    (r"min value is outside of the allowed memory range", _outside_value),
    (r"R(?P<reg>\d+) max value is outside of the allowed memory range", _bounds),
    (r"invalid access to map value|invalid access to memory", _outside_value),
    (
        r"unbounded memory access, use 'var &= const'",
        "The length is not limited. Before the call: if (len > sizeof(buf)) len = sizeof(buf);  with an unsigned len.\n"
        "If it is there and the compiler moved it: len &= SIZE - 1 right before the call (SIZE a power of two).",
    ),
    (r"R(?P<reg>\d+) unbounded memory access", _bounds),
    (
        r"invalid zero-sized read",
        "The length may be 0, which this function does not take. Before the call: if (!len) return 0;",
    ),
    (r"makes \S+ pointer be out of bounds|pointer offset -?\d+ is not allowed", _bounds),
    (r"math between \S+ pointer and -?\d+ is not allowed", "The constant is far outside of the memory it is added to."),
    # numbers that were pointers
    (r"R(?P<reg>\d+) invalid mem access 'scalar'", _scalar),
    (
        r"R\d+ invalid mem access '(?P<kind>[^']+)'",
        "A pointer of the kind {kind} cannot be read or written like this.",
    ),
    (
        r"(pointer arithmetic with \S+ operator|bitwise operator \S+ on pointer|32-bit pointer arithmetic) prohibited",
        "Only + and - are allowed with pointers, in 64 bits. Do the arithmetic with the offset and add it at the end.",
    ),
    (r"pointer \+= pointer prohibited", "Two pointers were added. One of the two has to be a number (an offset)."),
    (r"tried to subtract pointer from scalar", "number - pointer has no meaning. Did you mean pointer - number?"),
    (r"(?P<what>pointer arithmetic on \S+|subtraction from stack pointer) prohibited",
     "{what}: this pointer has to stay as it is. Copy what it points to, or use the field's own offset."),
    (r"dereference of modified ctx ptr|negative offset ctx ptr|variable ctx access",
     "The context is read at constant offsets only, from the pointer that the program got. Use ctx->field; choose by\n"
     "if or switch instead of by an index."),
    (r"same insn cannot be used with different pointers",
     "The compiler made one load out of two, for different kinds of pointers. Keep the branches apart:\n"
     "barrier_var() or asm volatile(\"\" ::: \"memory\") between them, or two variables."),
    # the stack
    (r"invalid (?:indirect )?read from stack|invalid indirect read", _stack_read),
    (r"invalid (?:write to|unbounded variable-offset|variable-offset).*stack",
     "The access leaves the stack frame: 512 bytes, from r10-512 to r10-1. Large buffers go into a map: a per-CPU\n"
     "array of one element. An index into a buffer on the stack has to be limited first."),
    (r"combined stack size of (?P<count>\d+) calls is (?P<size>\d+)\. Too large",
     "Along this chain of calls the functions take {size} bytes of stack, 512 are allowed in all.\n"
     "Move buffers into a per-CPU array map, make arrays smaller, or inline (__always_inline) so that they share."),
    (r"stack size .* Too large|stack size of subprog", "512 bytes of stack are allowed. Move buffers into a map."),
    (r"the call stack of \d+ frames is too deep", "Calls go at most 8 functions deep; recursion is not allowed."),
    (r"misaligned (?P<what>\S+) access",
     "The address is not a multiple of the access' size. Align the struct, or read it bytewise: __builtin_memcpy()."),
    (r"corrupted spill memory|invalid size of register (fill|spill)|cannot spill pointers",
     "A pointer on the stack is stored and loaded as 8 bytes, in the function's own frame. Was a part overwritten?"),
    (r"frame pointer is read only", "R10 cannot be changed. Copy it into another register."),
    # values that are not there
    (r"R(?P<reg>\d+) !read_ok", _not_ok),
    # resources
    (r"would lead to reference leak|Unreleased reference", _leak),
    (r"inside bpf_spin_lock-ed region|cannot be used inside.*lock",
     "The lock is still held on this path. Call bpf_spin_unlock() before each return, tail call or exit."),
    (r"function calls are not allowed while holding a lock",
     "Between bpf_spin_lock() and bpf_spin_unlock() nothing may be called. Call before it, keep the result."),
    (r"inside bpf_rcu_read_lock|rcu_read_lock",
     "Every bpf_rcu_read_lock() needs its bpf_rcu_read_unlock() on each path."),
    (r"inside bpf_preempt_disable|non-preemptible",
     "Call bpf_preempt_enable() before, on each path; nothing may sleep."),
    (r"reference has not been acquired before|must be referenced when passed to release|release .* expects refcounted",
     "What is released here was not taken by this program, or was released already: an object is released once."),
    (r"must be referenced or trusted|must be a rcu pointer|is an? (?:un)?trusted",
     "The pointer may lead to an object that is gone. Take a reference, or be between bpf_rcu_read_lock()\n"
     "and bpf_rcu_read_unlock() and take it there."),
    # dynptrs, iterators, kptrs
    (r"Expected an initialized dynptr",
     "Make the dynptr first (bpf_dynptr_from_mem() and others), and check that it worked."),
    (r"cannot overwrite referenced dynptr", "This dynptr holds a ring buffer record. Submit or discard it first."),
    (r"Dynptr has to be an uninitialized|potential write to dynptr",
     "This stack memory holds a dynptr. Use another variable."),
    (r"expected an (?:un)?initialized iter",
     "An iterator is used as new, next ..., destroy: bpf_for() and bpf_for_each() do it."),
    (r"kptr", "A kptr in a map is changed by bpf_kptr_xchg() only and read whole, as 8 bytes at its place."),
    # loops and size
    (r"infinite loop detected",
     "Nothing that the verifier tracks changes from turn to turn, so that the loop may never end. Count in a plain\n"
     "variable (not volatile, not in a map) up to a constant; or use bpf_for(), bpf_loop(), or may_goto (can_loop)."),
    (r"BPF program is too large|too many (?:states|jumps)|sequence of \d+ jumps is too complex",
     "The paths through the program are too many (a million instructions in all). Shorten loops, use bpf_for() or\n"
     "bpf_loop() instead of unrolling, and make large functions global (not static): these are checked once."),
    (r"back-edge|unreachable insn|jump out of range|last insn is not an exit|jump into the middle|loop detected",
     "The jumps lead nowhere, or nowhere useful: look at the assembly, and compile with -O2."),
    # results
    (r"At (?:program exit|callback return) the register R0 has (?P<have>.+?) should have been in (?P<want>\[.*\])",
     _return_range),
    # contexts and helpers
    (r"invalid bpf_context access", _ctx_access),
    (r"invalid \S*sock\S* access", "There is no field of struct bpf_sock or bpf_tcp_sock here, or not of this width."),
    (r"cannot write into|write into map forbidden|read from map forbidden|only read from",
     "This memory is read-only for programs (or write-only): data of const variables, frozen maps, kernel objects."),
    (r"program of this type cannot use helper (?P<name>\w+)", _helper),
    (r"unknown func (?P<name>\w+)", _helper),
    (r"invalid func", "There is no helper of this number: was the function declared, or a prototype wrong?"),
    (r"calling kernel function (?P<name>\w+) is not allowed",
     "{name}() is not for programs of this type: kernel functions are registered for some types each."),
    (r"GPL-restricted|non-GPL", "This function is for programs under a GPL-compatible license:\n"
     "char LICENSE[] SEC(\"license\") = \"GPL\"; (or \"Dual BSD/GPL\", \"Dual MIT/GPL\")."),
    (r"might sleep|must be sleepable|is sleepable",
     "This function may sleep. Load the program as sleepable (section name with .s, as SEC(\"fentry.s/...\")), and\n"
     "call it outside of RCU sections, locks and sections without preemption."),
    (r"cannot pass map_type (?P<type>\d+) into func (?P<name>\w+)", "{name}() does not work on maps of this type."),
    (r"fd \d+ is not pointing to valid bpf_map", "The descriptor in the program is no open map. Was the map created?"),
    (r"tracing progs cannot use|socket filter progs cannot use", "Values with locks or timers are not for this type."),
    (r"expected=ctx", "The function wants the context that the program got, unchanged."),
    # functions
    (r"Caller passes invalid args into func",
     "A global function is checked by its prototype: pass what it declares, or tag the argument (__arg_ctx,\n"
     "__arg_nonnull, __arg_trusted), or make the function static."),
    (
        r"is an unacquired reference|must have zero offset when passed to release",
        "A release takes the very pointer that was acquired, once: not one into the object, nor one already released.",
    ),
    (
        r"expected pointer to (?:STRUCT|UNION) (?P<want>\w+) but R\d+ has a pointer",
        "The function wants a struct {want}.",
    ),
    (
        r"access beyond|invalid negative access|Unsupported reg type|direct value offset",
        "The access is past the end of the object, or the memory is not of the kind that may be used here.",
    ),
    (
        r"may write into memory pointed by|BPF_ATOMIC stores into|attach to unsupported member",
        "Objects of the kernel and the context are not written by programs directly: use the helper or kfunc for it.",
    ),
    (r"cannot return stack pointer", "The memory is gone when the function ends. Let the caller pass a buffer."),
    (r"LD_ABS is only allowed", "Such packet loads end the function with 0: it has to return int."),
    (r"arg#\d+", "The argument is not of the type that the function declares."),
    (r"R\d+ must be a known constant", "The argument has to be a number that is known when the program is loaded."),
    (r"leaks addr|R\d+ leak",
     "Addresses of the kernel must not get out without CAP_PERFMON: do not store or return them."),
    (r"pointer -= pointer prohibited|pointer comparison prohibited|(?:partial copy|sign-extension part) of pointer",
     "Only with CAP_PERFMON may a program compute with addresses. Work with offsets, or load it with that capability."),
    (r"prohibited for !root|attempt to corrupt spilled pointer",
     "Without CAP_PERFMON an address must stay in bounds on guessed paths too: bound the offset first, with one sign."),
    (r"allowed only to CAP_PERFMON|loading/calling other bpf",
     "The task that loads the program lacks a capability: CAP_PERFMON to read the kernel, CAP_BPF to call functions."),
    (r"div by zero", "The divisor is the constant 0."),
    (r"unknown opcode|uses reserved fields|invalid (?:bpf_ld_imm64|BPF_LD)|is invalid$",
     "This is no instruction that the kernel knows. Is the program built for BPF, and by a compiler that fits?"),
    (r"invalid kernel function call not eliminated",
     "This kernel lacks a function that the program calls. Guard the call: if (bpf_ksym_exists(f))."),
)  # fmt: skip


def _builder(hint: str | Build) -> Build:
    if callable(hint):
        return hint
    text = hint

    def build(found: Finding) -> str:
        groups = found.match.groupdict() if found.match is not None else {}
        for name, value in groups.items():
            if name != "reg":
                text_value = value or ""
                filled = text.replace("{" + name + "}", text_value)
                if filled != text:
                    return filled
        return text

    return build


HINTS: tuple[tuple[re.Pattern[str], Build], ...] = tuple(
    (re.compile(pattern), _builder(hint)) for pattern, hint in _TABLE
)
