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
from ebpfsim.loader.kernel import KCONFIG, KernelView

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
    """Return the values of an object's externs; KernelError with libbpf's errno for one that the kernel does not have.

    ESRCH stands for a configuration value that is not set and a symbol without address, EINVAL for all else.
    """
    if not spec.externs:
        return Externs()
    result, btf = Externs(), spec.btf
    assert btf is not None
    config = [extern for extern in spec.externs if extern.kind is ExternKind.KCONFIG]
    symbols = [extern for extern in spec.externs if extern.kind is ExternKind.KSYM]
    result.kconfig = bytes(config[-1].data_off + config[-1].size) if config else b""
    # libbpf's order: what it knows itself, .config, addresses, BTF
    for extern in sorted(config, key=lambda extern: extern.name.startswith("CONFIG_")):
        value = _config_value(btf, extern, kernel, spec.where)
        if value is not None:
            before, after = result.kconfig[: extern.data_off], result.kconfig[extern.data_off + extern.size :]
            result.kconfig = before + value + after
    for extern in symbols:
        if not extern.type_id:
            result.addresses[extern.name] = kernel.symbol(extern.name) or 0
    for extern in symbols:
        if extern.type_id:
            btf_id = _btf_id(btf, extern, kernel.btf(), spec.where)
            if btf_id is not None:
                result.btf_ids[extern.name] = btf_id
    for extern in symbols:
        if not extern.type_id and not extern.weak and not result.addresses[extern.name]:
            raise _error(spec.where, extern, Errno.ESRCH, "the kernel has no symbol of that name")
    return result


def _error(where: str, extern: Extern, errno: Errno, why: str) -> KernelError:
    return KernelError(f"{where}: resolve extern '{extern.name}'", errno, why)


def _btf_id(btf: Btf, extern: Extern, kernel_btf: Btf, where: str) -> int | None:
    kind = Kind.FUNC if extern.is_func else Kind.VAR
    name = essential_name(extern.name) if extern.is_func else extern.name
    found = kernel_btf.find(name, kind)
    if found is None:
        if extern.weak:
            return None
        what = "function" if extern.is_func else "variable"
        raise _error(where, extern, Errno.EINVAL, f"the kernel's BTF has no {what} of that name")
    target = kernel_btf.type(found)
    assert isinstance(target, Func | Var)
    target_id = target.type_id if extern.is_func else kernel_btf.resolve(target.type_id)
    if types_are_compat(btf, extern.type_id, kernel_btf, target_id):
        return found
    if extern.weak and extern.is_func:
        return None
    raise _error(where, extern, Errno.EINVAL, "the kernel has it with an incompatible type")


# -- .kconfig ---------------------------------------------------------------------------------------------------------


def _config_value(btf: Btf, extern: Extern, kernel: KernelView, where: str) -> bytes | None:
    """Return the bytes of a configuration value, None for a weak one that is not set."""
    if extern.name.startswith("CONFIG_"):
        text = kernel.kconfig.get(extern.name)
        if text is not None:
            return _from_text(btf, extern, text, where)
        if extern.weak:
            return None
        if kernel.kconfig is KCONFIG:
            raise NotModelled(f"kernel configuration {extern.name}, which {where} needs", "/proc/config.gz")
        raise _error(where, extern, Errno.ESRCH, "the kernel's configuration does not set it")
    virtual = {
        "LINUX_KERNEL_VERSION": kernel.version_code,
        "LINUX_HAS_BPF_COOKIE": 1,
        "LINUX_HAS_SYSCALL_WRAPPER": 1,
    }
    known = extern.name in virtual or (extern.name.startswith("LINUX_") and extern.weak)
    if not known:
        detail = "libbpf fills in names that start with CONFIG_ or LINUX_ only"
        raise _error(where, extern, Errno.EINVAL, detail)
    if kcfg_type(btf, extern.type_id) not in (KcfgType.INT, KcfgType.CHAR, KcfgType.BOOL):
        raise _error(where, extern, Errno.EINVAL, "its type cannot hold a number")
    return _number(btf, extern, virtual.get(extern.name, 0), where, Errno.ERANGE)


def _from_text(btf: Btf, extern: Extern, text: str, where: str) -> bytes:
    kind = kcfg_type(btf, extern.type_id)
    if text[:1] in TRISTATES:
        if kind in (KcfgType.BOOL, KcfgType.CHAR, KcfgType.TRISTATE) and not (kind == KcfgType.BOOL and text == "m"):
            value = ord(text[0]) if kind == KcfgType.CHAR else TRISTATES[text[0]]
            return value.to_bytes(extern.size, "little")
    elif text.startswith('"'):
        data = text.strip('"').encode()
        if kind == KcfgType.CHARS:
            return data[: extern.size - 1].ljust(extern.size, b"\0")
    elif kind in (KcfgType.INT, KcfgType.CHAR):
        return _number(btf, extern, int(text, 0), where, Errno.EINVAL)
    raise _error(where, extern, Errno.EINVAL, f"its type cannot hold {text}")


def _number(btf: Btf, extern: Extern, value: int, where: str, too_large: Errno) -> bytes:
    type_ = btf.resolved(extern.type_id)
    if kcfg_type(btf, extern.type_id) == KcfgType.BOOL and value > 1:
        raise _error(where, extern, Errno.EINVAL, f"its type cannot hold {value}")
    signed = isinstance(type_, Int) and type_.signed
    size = sizeof(btf, extern.type_id)
    if size == 8:
        signed, value = False, value & 0xFFFFFFFFFFFFFFFF
    try:
        return value.to_bytes(size, "little", signed=signed)
    except OverflowError:
        raise _error(where, extern, too_large, f"{value} does not fit into {extern.size} bytes") from None
