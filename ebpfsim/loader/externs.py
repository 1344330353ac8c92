"""Gives externs their values: .kconfig variables, kernel variables and functions (bpf_object__resolve_externs)."""

from dataclasses import dataclass, field

from ebpfsim.btf.btf import Btf, essential_name
from ebpfsim.btf.compat import types_are_compat
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Func, Int, Kind, Var
from ebpfsim.elf.externs import KcfgType, kcfg_type
from ebpfsim.elf.spec import Extern, ExternKind, ObjectSpec
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.loader.kernel import KernelView

__all__ = ["Externs", "resolve_externs"]

TRISTATES = {"n": 0, "y": 1, "m": 2}  # enum libbpf_tristate


@dataclass(slots=True)
class Externs:
    """``kconfig`` is the image of the .kconfig map; ``btf_ids`` are typed kernel symbols, ``addresses`` the others.

    A weak symbol that the kernel does not have is in neither.
    """

    kconfig: bytes = b""
    btf_ids: dict[str, int] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)


def resolve_externs(spec: ObjectSpec, kernel: KernelView) -> Externs:
    """Return the values of an object's externs; KernelError ESRCH for one that the kernel does not have."""
    result = Externs()
    config = [extern for extern in spec.externs if extern.kind is ExternKind.KCONFIG]
    image = bytearray(config[-1].data_off + config[-1].size) if config else bytearray()
    for extern in spec.externs:
        assert spec.btf is not None
        if extern.kind is ExternKind.KCONFIG:
            value = _config_value(spec.btf, extern, kernel, spec.where)
            image[extern.data_off : extern.data_off + extern.size] = value
        elif not extern.type_id:
            address = kernel.symbol(extern.name)
            if address is None and not extern.weak:
                raise _missing(spec.where, extern, "the kernel has no symbol of that name")
            result.addresses[extern.name] = address or 0
        else:
            btf_id = _btf_id(spec.btf, extern, kernel.btf(), spec.where)
            if btf_id is not None:
                result.btf_ids[extern.name] = btf_id
    result.kconfig = bytes(image)
    return result


def _missing(where: str, extern: Extern, why: str) -> KernelError:
    return KernelError(f"{where}: resolve extern '{extern.name}'", Errno.ESRCH, why)


def _btf_id(btf: Btf, extern: Extern, kernel_btf: Btf, where: str) -> int | None:
    kind = Kind.FUNC if extern.is_func else Kind.VAR
    name = essential_name(extern.name) if extern.is_func else extern.name
    found = kernel_btf.find(name, kind)
    if found is None:
        if extern.weak:
            return None
        what = "function" if extern.is_func else "variable"
        raise _missing(where, extern, f"the kernel's BTF has no {what} of that name")
    target = kernel_btf.type(found)
    assert isinstance(target, Func | Var)
    target_id = target.type_id if extern.is_func else kernel_btf.resolve(target.type_id)
    if types_are_compat(btf, extern.type_id, kernel_btf, target_id):
        return found
    if extern.weak and extern.is_func:
        return None
    detail = "the kernel has it with an incompatible type"
    raise KernelError(f"{where}: resolve extern '{extern.name}'", Errno.EINVAL, detail)


# -- .kconfig ---------------------------------------------------------------------------------------------------------


def _config_value(btf: Btf, extern: Extern, kernel: KernelView, where: str) -> bytes:
    if extern.name.startswith("CONFIG_"):
        text = kernel.kconfig.get(extern.name)
        if text is not None:
            return _from_text(btf, extern, text, where)
        if extern.weak:
            return bytes(extern.size)
        raise NotModelled(f"kernel configuration {extern.name}, which {where} needs", "/proc/config.gz")
    virtual = {
        "LINUX_KERNEL_VERSION": kernel.version_code,
        "LINUX_HAS_BPF_COOKIE": 1,
        "LINUX_HAS_SYSCALL_WRAPPER": 1,
    }
    if extern.name in virtual:
        return _number(btf, extern, virtual[extern.name], where)
    if extern.name.startswith("LINUX_") and extern.weak:
        return bytes(extern.size)
    raise _missing(where, extern, "libbpf fills in names that start with CONFIG_ or LINUX_ only")


def _from_text(btf: Btf, extern: Extern, text: str, where: str) -> bytes:
    kind = kcfg_type(btf, extern.type_id)
    if text in TRISTATES:
        if kind in (KcfgType.BOOL, KcfgType.CHAR, KcfgType.TRISTATE) and not (kind == KcfgType.BOOL and text == "m"):
            value = ord(text) if kind == KcfgType.CHAR else TRISTATES[text]
            return value.to_bytes(extern.size, "little")
    elif text.startswith('"'):
        data = text.strip('"').encode()
        if kind == KcfgType.CHARS:
            return data[: extern.size - 1].ljust(extern.size, b"\0")
    else:
        return _number(btf, extern, int(text, 0), where)
    raise KernelError(f"{where}: resolve extern '{extern.name}'", Errno.EINVAL, f"its type cannot hold {text}")


def _number(btf: Btf, extern: Extern, value: int, where: str) -> bytes:
    type_ = btf.resolved(extern.type_id)
    signed = isinstance(type_, Int) and type_.signed
    if kcfg_type(btf, extern.type_id) not in (KcfgType.INT, KcfgType.CHAR, KcfgType.BOOL):
        raise KernelError(f"{where}: resolve extern '{extern.name}'", Errno.EINVAL, "its type cannot hold a number")
    try:
        return value.to_bytes(sizeof(btf, extern.type_id), "little", signed=signed)
    except OverflowError:
        detail = f"{value} does not fit into {extern.size} bytes"
        raise KernelError(f"{where}: resolve extern '{extern.name}'", Errno.ERANGE, detail) from None
