"""What ``netstack.xdp_helpers`` do with frames that lie in one piece, as eBPF assembly (``ebpfsim.jit.routine``).

R1 points to ``struct xdp_buff``. Frames with fragments, and metadata that would have to be moved, are left to Python.
"""

from ebpfsim.errnos import Errno
from ebpfsim.jit.routine import ASK_PYTHON
from netstack.headers import ETH_HLEN
from netstack.xdp_buff import XDP_FLAGS_HAS_FRAGS, XDP_FRAME_BYTES
from netstack.xdp_frags import SHARED_INFO_BYTES

__all__ = ["ADJUST_HEAD", "ADJUST_META", "ADJUST_TAIL", "GET_BUFF_LEN", "LOAD_BYTES", "METALEN_MAX", "STORE_BYTES"]

METALEN_MAX = 255  # struct skb_shared_info.meta_len is 8 bits wide (xdp_metalen_invalid)

# fields of struct xdp_buff
_DATA, _DATA_END, _DATA_META, _HARD_START, _FRAME_SZ, _FLAGS = 0, 8, 16, 24, 48, 52
_ENDS = f"""
    invalid: r0 = {-Errno.EINVAL}; exit
    ask: r0 = {ASK_PYTHON}; exit
"""
_NO_FRAGS = f"r0 = *(u32 *)(r1 + {_FLAGS}); r0 &= {XDP_FLAGS_HAS_FRAGS}; if r0 != 0 goto ask"
_SIGNED = "r2 <<= 32; r2 s>>= 32"

GET_BUFF_LEN = f"""
    {_NO_FRAGS}
    r0 = *(u64 *)(r1 + {_DATA_END}); r2 = *(u64 *)(r1 + {_DATA}); r0 -= r2; exit
    ask: r0 = {ASK_PYTHON}; exit
"""
ADJUST_HEAD = f"""
    r3 = *(u64 *)(r1 + {_DATA}); r4 = *(u64 *)(r1 + {_DATA_META})
    if r4 < r3 goto ask
    {_SIGNED}
    r3 += r2; r4 += r2
    r5 = *(u64 *)(r1 + {_HARD_START}); r5 += {XDP_FRAME_BYTES}
    if r3 < r5 goto invalid
    r5 = *(u64 *)(r1 + {_DATA_END}); r5 += {-ETH_HLEN}
    if r3 > r5 goto invalid
    *(u64 *)(r1 + {_DATA}) = r3; *(u64 *)(r1 + {_DATA_META}) = r4
    r0 = 0; exit
    {_ENDS}
"""
ADJUST_META = f"""
    r3 = *(u64 *)(r1 + {_DATA}); r4 = *(u64 *)(r1 + {_DATA_META})
    if r4 > r3 goto ask
    {_SIGNED}
    r4 += r2
    r5 = *(u64 *)(r1 + {_HARD_START}); r5 += {XDP_FRAME_BYTES}
    if r4 < r5 goto invalid
    if r4 > r3 goto invalid
    r3 -= r4
    r0 = {-Errno.EACCES}
    r5 = r3; r5 &= 3; if r5 != 0 goto out
    if r3 > {METALEN_MAX} goto out
    *(u64 *)(r1 + {_DATA_META}) = r4
    r0 = 0
    out: exit
    {_ENDS}
"""
ADJUST_TAIL = f"""
    {_NO_FRAGS}
    {_SIGNED}
    r3 = *(u64 *)(r1 + {_DATA}); r3 += {ETH_HLEN}
    r4 = *(u64 *)(r1 + {_DATA_END}); r2 += r4
    if r2 < r3 goto invalid
    r3 = *(u32 *)(r1 + {_FRAME_SZ}); r5 = *(u64 *)(r1 + {_HARD_START}); r3 += r5; r3 += {-SHARED_INFO_BYTES}
    if r2 > r3 goto invalid
    *(u64 *)(r1 + {_DATA_END}) = r2
    r3 = r2; r3 += -8
    eight: if r4 > r3 goto one; *(u64 *)(r4 + 0) = 0; r4 += 8; goto eight
    one: if r4 >= r2 goto done; *(u8 *)(r4 + 0) = 0; r4 += 1; goto one
    done: r0 = 0; exit
    {_ENDS}
"""


def _copy(source: str, target: str) -> str:
    # r3: the buffer; offset and length are 32 bits wide
    return f"""
        {_NO_FRAGS}
        w2 = w2; w4 = w4
        r0 = {-Errno.EFAULT}
        if r2 > 0xffff goto out
        if r4 > 0xffff goto out
        r5 = *(u64 *)(r1 + {_DATA}); r0 = *(u64 *)(r1 + {_DATA_END}); r0 -= r5
        r5 += r2; r2 += r4
        if r2 > r0 goto invalid
        eight: if r4 < 8 goto one
        r2 = *(u64 *)({source} + 0); *(u64 *)({target} + 0) = r2; r3 += 8; r5 += 8; r4 -= 8; goto eight
        one: if r4 == 0 goto done
        r2 = *(u8 *)({source} + 0); *(u8 *)({target} + 0) = r2; r3 += 1; r5 += 1; r4 -= 1; goto one
        done: r0 = 0
        out: exit
        {_ENDS}
    """


LOAD_BYTES, STORE_BYTES = _copy("r5", "r3"), _copy("r3", "r5")
