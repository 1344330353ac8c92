"""Generated text for ``ebpfsim prog dump --jited``: the dispatcher, trampolines, functions of struct_ops."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebpfsim.errors import InputError
from ebpfsim.suggest import did_you_mean

if TYPE_CHECKING:
    from ebpfsim.elf.spec import ObjectSpec
    from ebpfsim.kernel import Kernel
    from ebpfsim.loader import Object
    from ebpfsim.simulation import Host

__all__ = ["Text", "attach_for_text", "choose_texts", "generated_texts", "is_text_name", "text_rows", "traced_function"]

DISPATCHER, TRAMPOLINE, STRUCT_OPS = "dispatcher", "trampoline", "struct_ops"
PREFIX = "bpf_"  # of the symbols: bpf_dispatcher_xdp, bpf_trampoline_KEY, bpf__TABLE_MEMBER
XDP_FUNC = "bpf_dispatcher_xdp_func"
ON_TRAMPOLINES = ("fentry", "fexit", "fmod_ret", "lsm")


@dataclass(frozen=True, slots=True)
class Text:
    """An image: its symbol, what it is for, the function that it stands in for, its place and bytes."""

    name: str
    what: str
    target: str
    address: int
    code: bytes

    def is_called(self, name: str) -> bool:
        """Whether a name on the command line means this one: its kind, its symbol, or the function."""
        return name in (self.name, self.target, self.name.removeprefix(PREFIX).partition("_")[0])


def is_text_name(name: str, targets: Iterable[str] = ()) -> bool:
    """Whether a name on the command line may be one of generated text; ``targets`` are functions that are traced."""
    kinds = (DISPATCHER, TRAMPOLINE, STRUCT_OPS)
    return name in kinds or name in targets or name.startswith(tuple(f"{PREFIX}{kind}_" for kind in kinds))


def generated_texts(kernel: "Kernel") -> list[Text]:
    """Return the images that a kernel runs now: the dispatcher, then trampolines by address, then struct_ops."""
    found: list[Text] = []
    dispatcher, text = kernel.xdp_dispatcher, kernel.text
    if dispatcher.code() and dispatcher.page is not None:
        what = f"generation {dispatcher.generation}, {dispatcher.num_progs} of 48 programs"
        address = dispatcher.page.address + dispatcher.image.image_off
        found.append(Text(dispatcher.page.name, what, XDP_FUNC, address, dispatcher.code()))
    for trampoline in kernel.trampolines.by_key.values():
        generation = trampoline.generation
        if generation is None:
            continue
        counts = [f"{len(links)} {kind.value}" for kind, links in trampoline.links.items() if links]
        what = f"trampoline of {trampoline.site.name}, generation {generation.number}: {', '.join(counts)}"
        image = generation.image
        found.append(Text(trampoline.name, what, trampoline.site.name, image.address, text.code(image)))
    for name, image in text.images.items():
        if name.startswith(f"{PREFIX}{STRUCT_OPS}_"):
            found.append(Text(name, "functions of a table", name, image.address, text.code(image)))
    return found


def text_rows(
    kernel: "Kernel", texts: Sequence[Text], *, opcodes: bool = False
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return lines and rows, in the shape of those of programs."""
    from ebpfsim.jit.text_listing import text_lines
    from tracing.kallsyms import Kallsyms

    symbols = Kallsyms(kernel)
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    for text in texts:
        lines += [""] if lines else []
        lines += [f"{text.name}:", f"; {text.what}, {len(text.code)} bytes at {text.address:#x}"]
        insns = []
        for line in text_lines(text.code, text.address, symbols.name_of):
            lines.append(f"{line.pc:4x}:\t{line.operation} {line.operands}".rstrip())
            row: dict[str, Any] = {"pc": f"{line.pc:#x}", "operation": line.operation}
            row["operands"] = [part for part in line.operands.split(", ") if part]
            if opcodes:
                lines.append(f"\t{line.code.hex(' ')}")
                row["opcodes"] = [f"{byte:#04x}" for byte in line.code]
            insns.append(row)
        rows.append({"name": text.name, "insns": insns})
    return lines, rows


def attach_for_text(opened: "Object", host: "Host", spec: "ObjectSpec") -> None:
    """Load an object's programs that end in generated text, and attach them.

    XDP programs get a device each, others go where SEC() says; functions of other programs are left out.
    """
    from ebpfsim.uapi.bpf import ProgType

    xdp = [name for name, each in spec.programs.items() if each.type is ProgType.XDP]
    traced = [name for name, each in spec.programs.items() if traced_function(each.section)]
    opened.load(only=[*xdp, *traced])
    for number, name in enumerate(xdp):
        host.nic(f"eth{number}", f"10.{number}.0.1/24")
        host.attach_xdp(opened.programs[name], f"eth{number}")
    for name in traced:
        host.auto_attach(opened.programs[name])


def traced_function(section: str) -> str:
    """Return the function of the kernel that programs of a section trace by a trampoline, or nothing."""
    from ebpfsim.btf.types import Kind
    from ebpfsim.btf.vmlinux import vmlinux

    kind, _, target = section.partition("/")
    word = kind.removesuffix(".s")
    function = f"bpf_lsm_{target}" if word == "lsm" else target
    traces = word in ON_TRAMPOLINES and target and vmlinux().find(function, Kind.FUNC) is not None
    return function if traces else ""


def choose_texts(kernel: "Kernel", name: str, where: str) -> list[Text]:
    """Return what a name means; InputError when that is nothing."""
    known = generated_texts(kernel)
    found = [text for text in known if text.is_called(name)]
    if not found:
        names = [text.name for text in known] + [text.target for text in known]
        raise InputError(where, f"there is no generated text '{name}'{did_you_mean(name, names)}")
    return found
