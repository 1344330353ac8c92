"""XDP attachment: which program a device runs, natively or generically, and who may change it.

Follows ``dev_xdp_attach`` and its kin in net/core/dev.c and ``do_setlink`` in net/core/rtnetlink.c, v6.18. Refusals
carry the kernel's extack text in ``KernelError.detail`` (netlink shows it; for links only a tracepoint does).

Left out: hardware offload, programs bound to a device, upper devices that have a program, TCP data split and memory
providers, none of which a modelled device has.
"""

from collections.abc import Callable
from typing import ClassVar, Protocol

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, LinkType, ProgType
from ebpfsim.uapi.flags import (
    BPF_F_XDP_HAS_FRAGS,
    XDP_FLAGS_DRV_MODE,
    XDP_FLAGS_HW_MODE,
    XDP_FLAGS_REPLACE,
    XDP_FLAGS_SKB_MODE,
    XDP_FLAGS_UPDATE_IF_NOEXIST,
)
from ebpfsim.uapi.net import XdpMode
from hooks.dispatcher import Dispatcher
from hooks.link import HookKernel, HookStats, Link, LinkKernel, note
from hooks.point import AttachKernel, AttachPoint, Opts, Points

__all__ = [
    "MAX_SINGLE_BUFFER_MTU",
    "MAX_SKB_FRAGS",
    "SHARED_INFO_BYTES",
    "XDP_PACKET_HEADROOM",
    "XdpDevice",
    "XdpLink",
    "XdpSlot",
    "XdpState",
    "bpf_xdp_link_attach",
    "check_xdp_mtu",
    "max_xdp_mtu",
    "points",
]

XDP_FLAGS_MODES = XDP_FLAGS_SKB_MODE | XDP_FLAGS_DRV_MODE | XDP_FLAGS_HW_MODE
XDP_FLAGS_MASK = XDP_FLAGS_MODES | XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_REPLACE

# what a page that holds a frame has room for
XDP_PACKET_HEADROOM = 256  # include/uapi/linux/bpf.h
SHARED_INFO_BYTES = 320  # SKB_DATA_ALIGN(sizeof(struct skb_shared_info)), x86-64
MAX_SKB_FRAGS = 17  # include/linux/skbuff.h, CONFIG_MAX_SKB_FRAGS
ETH_HLEN = 14  # include/uapi/linux/if_ether.h
MAX_SINGLE_BUFFER_MTU = PAGE_SIZE - XDP_PACKET_HEADROOM - SHARED_INFO_BYTES - ETH_HLEN


class XdpDevice(Protocol):
    """What attaching XDP programs needs of a network device."""

    name: str
    ifindex: int

    @property
    def ndo_bpf(self) -> Callable[[Prog | None], None] | None:
        """The driver's XDP_SETUP_PROG, or None when the driver has no native XDP.

        It is called with the new program, None to remove it, before the device's state changes. It may refuse a program
        with KernelError (``check_xdp_mtu`` does for drivers of one page a frame); it must not refuse None.
        """
        ...


def max_xdp_mtu(prog: Prog) -> int:
    """Return the largest MTU in bytes with which a driver of one page a frame can run a program natively.

    As veth_xdp_set() has it; programs that know fragments have 17 more pages.
    """
    return MAX_SINGLE_BUFFER_MTU + (PAGE_SIZE * MAX_SKB_FRAGS if prog.prog_flags & BPF_F_XDP_HAS_FRAGS else 0)


def check_xdp_mtu(prog: Prog | None, mtu: int, text: str = "veth: Peer MTU is too large to set XDP") -> None:
    """Refuse a program for native XDP that cannot see whole frames of that MTU: ERANGE, as veth_xdp_set() does.

    ``prog`` None is fine. Drivers differ in errno and text; veth's is the default.
    """
    if prog is not None and mtu > max_xdp_mtu(prog):
        raise KernelError("xdp_setup_prog", Errno.ERANGE, text)


class XdpSlot:
    """The program of a device in one mode (``struct bpf_xdp_entity``); ``link`` is None when netlink set it."""

    __slots__ = ("link", "prog", "stats")

    def __init__(self, prog: Prog, link: "XdpLink | None") -> None:
        self.prog = prog
        self.link = link
        self.stats = link.stats if link is not None else HookStats()

    @property
    def label(self) -> str:
        """The link's name in records; empty for netlink attachments."""
        return self.link.label if self.link is not None else ""


class XdpLink(Link):
    """A link of type xdp (``struct bpf_xdp_link``). ``state`` is None once it is off its device."""

    type: ClassVar[LinkType] = LinkType.XDP

    def __init__(self, kernel: LinkKernel, prog: Prog, state: "XdpState", flags: int, label: str = "") -> None:
        super().__init__(kernel, prog, AttachType.XDP, label)
        self.state: XdpState | None = state
        self.flags = flags

    def fill_link_info(self) -> dict[str, object]:
        """Return ``xdp.ifindex``, which is 0 when the link is off its device."""
        return {"ifindex": self.state.device.ifindex if self.state is not None else 0}

    def update(self, prog: Prog, old: Prog | None = None) -> None:
        """Replace the program: ENOLINK off the device, EPERM when ``old`` is not attached, EINVAL for another type."""
        if self.state is None:
            raise KernelError("link_update", Errno.ENOLINK, "the device has gone or the link was detached")
        if old is not None and old is not self.prog:
            raise KernelError("link_update", Errno.EPERM, "the attached program is not the expected one")
        if prog.type != self.prog.type or prog.expected_attach_type != self.prog.expected_attach_type:
            raise KernelError("link_update", Errno.EINVAL, f"program '{prog.name}' is of another type or attach type")
        if prog is not self.prog:
            self.state.replace_link_prog(self, prog)

    def detach(self) -> None:
        """Leave the device; cannot fail, and does nothing when the link has left it."""
        self.release()

    def release(self) -> None:
        """Leave the device if still on it (bpf_xdp_link_release)."""
        if self.state is not None:
            self.state.detach_link(self)


class XdpState:
    """The XDP side of one device: ``native`` and ``generic`` are what its receive path runs, or None."""

    def __init__(self, device: XdpDevice, kernel: HookKernel, dispatcher: Dispatcher) -> None:
        self.device = device
        self.kernel = kernel
        self.dispatcher = dispatcher
        self.native: XdpSlot | None = None
        self.generic: XdpSlot | None = None

    @property
    def active(self) -> XdpSlot | None:
        """The slot in use, whichever mode it is."""
        return self.native or self.generic

    @property
    def mode(self) -> XdpMode:
        """The mode in use, as IFLA_XDP_ATTACHED reports it."""
        if self.native is not None:
            return XdpMode.NATIVE
        return XdpMode.GENERIC if self.generic is not None else XdpMode.NONE

    def slot(self, mode: XdpMode) -> XdpSlot | None:
        """Return the slot of a mode."""
        return self.native if mode is XdpMode.NATIVE else self.generic

    def dev_change_xdp_fd(self, prog: Prog | None, *, flags: int = 0, expected: Prog | None = None) -> None:
        """Set or remove (None) the program by netlink, as ``ip link set dev D xdp`` does.

        With XDP_FLAGS_REPLACE the attached program must be ``expected`` (None: there must be none); without the flag
        it is ignored.
        """
        if flags & ~XDP_FLAGS_MASK:
            raise KernelError("setlink", Errno.EINVAL, f"unknown IFLA_XDP_FLAGS {flags & ~XDP_FLAGS_MASK:#x}")
        # do_setlink refuses two modes before dev_xdp_attach could say so
        if (flags & XDP_FLAGS_MODES).bit_count() > 1:
            raise KernelError("setlink", Errno.EINVAL)
        if not flags & XDP_FLAGS_REPLACE:
            expected = None
        for given in (prog, expected):
            if given is not None and given.type != ProgType.XDP:
                raise KernelError("setlink", Errno.EINVAL, f"program '{given.name}' is not of type xdp")
        self._attach(None, prog, expected, flags, "setlink")

    def attach_link(self, link: XdpLink) -> None:
        """Put a link's program on the device (dev_xdp_attach_link)."""
        self._attach(link, None, None, link.flags, "link_create")

    def detach_link(self, link: XdpLink) -> None:
        """Take a link off the device; cannot fail."""
        mode = self._mode_of(link.flags)
        self._install(mode, None)
        self._set(mode, None)
        link.state = None
        self._note("detach", mode, link.prog, link)

    def replace_link_prog(self, link: XdpLink, prog: Prog) -> None:
        """Install another program for an attached link; the driver may refuse it."""
        mode = self._mode_of(link.flags)
        self._install(mode, prog)
        old, link.prog = link.prog, prog
        prog.get()
        old.put()
        slot = self.slot(mode)
        assert slot is not None
        slot.prog = prog
        self._note("update", mode, prog, link)

    def uninstall(self) -> None:
        """Take everything off a device that goes away (dev_xdp_uninstall): links stay, detached."""
        for mode in (XdpMode.GENERIC, XdpMode.NATIVE):
            slot = self.slot(mode)
            if slot is None:
                continue
            self._install(mode, None)
            self._set(mode, None)
            self._note("detach", mode, slot.prog, slot.link)
            if slot.link is not None:
                slot.link.state = None
            else:
                slot.prog.put()

    def _attach(self, link: XdpLink | None, new: Prog | None, expected: Prog | None, flags: int, op: str) -> None:
        # dev_xdp_attach, its checks in its order; offload has a slot of its own, which is always empty
        if link is not None and flags & ~XDP_FLAGS_MODES:
            raise KernelError(op, Errno.EINVAL, "Invalid XDP flags for BPF link attachment")
        if (flags & XDP_FLAGS_MODES).bit_count() > 1:
            raise KernelError(op, Errno.EINVAL, "Only one XDP mode flag can be set")
        offload = bool(flags & XDP_FLAGS_HW_MODE)
        mode = self._mode_of(flags)
        slot = self.slot(mode) if not offload else None
        current = slot.prog if slot is not None else None
        if slot is not None and slot.link is not None:
            raise KernelError(op, Errno.EBUSY, "Can't replace active BPF XDP link")
        if link is not None and current is not None:
            raise KernelError(op, Errno.EBUSY, "Can't replace active XDP program with BPF link")
        if flags & XDP_FLAGS_REPLACE and current is not expected:
            raise KernelError(op, Errno.EEXIST, "Active program does not match expected")
        if link is not None:
            new = link.prog
        if new is not None:
            self._check_new(new, current, mode, flags, op)
        if new is current:
            return
        if mode is XdpMode.NATIVE and self.device.ndo_bpf is None:
            raise KernelError(op, Errno.EOPNOTSUPP, "Underlying driver does not support XDP in native mode")
        if offload:
            # a driver that cannot offload does not know XDP_SETUP_PROG_HW
            raise KernelError(op, Errno.EINVAL)
        self._install(mode, new)
        self._set(mode, XdpSlot(new, link) if new is not None else None)
        if link is None and new is not None:
            new.get()
        if new is not None:
            self._note("attach" if current is None else "update", mode, new, link)
        elif current is not None:
            self._note("detach", mode, current, None)
        if current is not None:
            current.put()

    def _check_new(self, new: Prog, current: Prog | None, mode: XdpMode, flags: int, op: str) -> None:
        if flags & XDP_FLAGS_UPDATE_IF_NOEXIST and current is not None:
            raise KernelError(op, Errno.EBUSY, "XDP program already attached")
        other = self.generic if mode is XdpMode.NATIVE else self.native
        if other is not None and not flags & XDP_FLAGS_HW_MODE:
            raise KernelError(op, Errno.EEXIST, "Native and generic XDP can't be active at the same time")
        for refused in (AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP):
            if new.expected_attach_type == refused:
                text = f"{refused.kernel_name} programs can not be attached to a device"
                raise KernelError(op, Errno.EINVAL, text)

    def _mode_of(self, flags: int) -> XdpMode:
        # dev_xdp_mode: native where the driver can, unless a flag says otherwise
        if flags & (XDP_FLAGS_HW_MODE | XDP_FLAGS_DRV_MODE):
            return XdpMode.NATIVE
        if flags & XDP_FLAGS_SKB_MODE:
            return XdpMode.GENERIC
        return XdpMode.NATIVE if self.device.ndo_bpf is not None else XdpMode.GENERIC

    def _install(self, mode: XdpMode, prog: Prog | None) -> None:
        # dev_xdp_install: the driver first, as it may refuse; then the dispatcher, which cannot
        slot = self.slot(mode)
        if mode is XdpMode.NATIVE and self.device.ndo_bpf is not None:
            self.device.ndo_bpf(prog)
        self.dispatcher.change_prog(slot.prog if slot is not None else None, prog)

    def _set(self, mode: XdpMode, slot: XdpSlot | None) -> None:
        if mode is XdpMode.NATIVE:
            self.native = slot
        else:
            self.generic = slot

    def _note(self, kind: str, mode: XdpMode, prog: Prog, link: XdpLink | None) -> None:
        word = "native" if mode is XdpMode.NATIVE else "generic"
        note(
            self.kernel,
            kind,
            f"xdp {kind}: program '{prog.name}' (id {prog.id}), {word}, device {self.device.name}",
            {
                "hook": "xdp",
                "device": self.device.name,
                "mode": word,
                "prog_id": prog.id,
                "link": link.label if link is not None else "",
            },
        )


def bpf_xdp_link_attach(kernel: LinkKernel, state: XdpState, prog: Prog, flags: int, label: str = "") -> XdpLink:
    """Attach a program to a device by a new link (BPF_LINK_CREATE) and return it with the caller's reference."""
    # bpf_prog_attach_check_attach_type: the attach type names the program type
    if prog.type != ProgType.XDP:
        raise KernelError("link_create", Errno.EINVAL, f"program '{prog.name}' is of type {prog.type.lower}")
    link = XdpLink(kernel, prog, state, flags, label)
    try:
        state.attach_link(link)
    except KernelError:
        # bpf_link_cleanup: the link never was on the device; its id is used up
        link.state = None
        link.put()
        raise
    return link


def points(kernel: AttachKernel) -> Points:
    """Return the row of BPF_XDP; links want an interface that there is, else EINVAL."""

    def create(prog: Prog, ifindex: int, flags: int, _opts: Opts) -> XdpLink:
        device = kernel.device_by_ifindex(ifindex)
        if device is None:
            raise KernelError("link_create", Errno.EINVAL, f"no device with ifindex {ifindex}")
        return bpf_xdp_link_attach(kernel, device.xdp, prog, flags)

    return {AttachType.XDP: AttachPoint(link_create=create)}
