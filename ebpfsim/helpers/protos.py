"""THE helper table: arguments, result and restrictions of every helper function.

Follows the ``bpf_func_proto`` rows of kernel/bpf/helpers.c, net/core/filter.c, kernel/trace/bpf_trace.c and others,
v6.18. Which program type may call which helper stands in ``ebpfsim.progs.types``. Where a helper has another prototype
for some program types, ``VARIANTS`` has it.
"""

from dataclasses import dataclass
from types import MappingProxyType

from ebpfsim.progs.regtypes import (
    DYNPTR_TYPE_LOCAL,
    DYNPTR_TYPE_RINGBUF,
    MEM_ALIGNED,
    MEM_FIXED_SIZE,
    MEM_RDONLY,
    MEM_RINGBUF,
    MEM_UNINIT,
    MEM_WRITE,
    OBJ_RELEASE,
    PTR_MAYBE_NULL,
    PTR_TRUSTED,
)
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.helper_ids import HELPER_NAMES

__all__ = ["PROTOS", "Proto", "proto_for"]

# enum bpf_arg_type: the base types
ARG_DONTCARE = 0
ARG_CONST_MAP_PTR = 1
ARG_PTR_TO_MAP_KEY = 2
ARG_PTR_TO_MAP_VALUE = 3
ARG_PTR_TO_MEM = 4
ARG_PTR_TO_ARENA = 5
ARG_CONST_SIZE = 6
ARG_CONST_SIZE_OR_ZERO = 7
ARG_PTR_TO_CTX = 8
ARG_ANYTHING = 9
ARG_PTR_TO_SPIN_LOCK = 10
ARG_PTR_TO_SOCK_COMMON = 11
ARG_PTR_TO_SOCKET = 12
ARG_PTR_TO_BTF_ID = 13
ARG_PTR_TO_RINGBUF_MEM = 14
ARG_CONST_ALLOC_SIZE_OR_ZERO = 15
ARG_PTR_TO_BTF_ID_SOCK_COMMON = 16
ARG_PTR_TO_PERCPU_BTF_ID = 17
ARG_PTR_TO_FUNC = 18
ARG_PTR_TO_STACK = 19
ARG_PTR_TO_CONST_STR = 20
ARG_PTR_TO_TIMER = 21
ARG_KPTR_XCHG_DEST = 22
ARG_PTR_TO_DYNPTR = 23

# enum bpf_return_type: the base types
RET_INTEGER = 0
RET_VOID = 1
RET_PTR_TO_MAP_VALUE = 2
RET_PTR_TO_SOCKET = 3
RET_PTR_TO_TCP_SOCK = 4
RET_PTR_TO_SOCK_COMMON = 5
RET_PTR_TO_MEM = 6
RET_PTR_TO_MEM_OR_BTF_ID = 7
RET_PTR_TO_BTF_ID = 8


@dataclass(frozen=True, slots=True)
class Proto:
    """What a helper takes and gives (``struct bpf_func_proto``).

    ``arg_sizes`` is the size in bytes of an argument with MEM_FIXED_SIZE, ``arg_btf`` and ``ret_btf`` the kernel struct
    of a BTF pointer.
    """

    id: int
    ret: int
    args: tuple[int, ...]
    gpl_only: bool = False
    pkt_access: bool = False
    might_sleep: bool = False
    fastcall: bool = False
    arg_sizes: tuple[int, ...] = (0, 0, 0, 0, 0)
    arg_btf: tuple[str, ...] = ("", "", "", "", "")
    ret_btf: str = ""

    @property
    def name(self) -> str:
        """The C name, for instance ``bpf_map_lookup_elem``."""
        return HELPER_NAMES[self.id]


# short names of the columns
ANY, CTX, MAP, KEY, VAL = ARG_ANYTHING, ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_KEY, ARG_PTR_TO_MAP_VALUE
SIZE, SIZE0, ALLOC = ARG_CONST_SIZE, ARG_CONST_SIZE_OR_ZERO, ARG_CONST_ALLOC_SIZE_OR_ZERO
NULL = PTR_MAYBE_NULL
MEM_R = ARG_PTR_TO_MEM | MEM_RDONLY
MEM_RW = ARG_PTR_TO_MEM | MEM_WRITE
MEM_W = ARG_PTR_TO_MEM | MEM_UNINIT | MEM_WRITE
FIXED_R = MEM_R | MEM_FIXED_SIZE
FIXED_W = MEM_W | MEM_FIXED_SIZE | MEM_ALIGNED
FIXED_RW = MEM_RW | MEM_FIXED_SIZE | MEM_ALIGNED
VAL_W = VAL | MEM_UNINIT | MEM_WRITE
SKC, BTF_SKC, SOCK, BTF = ARG_PTR_TO_SOCK_COMMON, ARG_PTR_TO_BTF_ID_SOCK_COMMON, ARG_PTR_TO_SOCKET, ARG_PTR_TO_BTF_ID
FUNC, STACK, STR = ARG_PTR_TO_FUNC, ARG_PTR_TO_STACK, ARG_PTR_TO_CONST_STR
SPIN, TIMER, PERCPU, RECORD = (
    ARG_PTR_TO_SPIN_LOCK,
    ARG_PTR_TO_TIMER,
    ARG_PTR_TO_PERCPU_BTF_ID,
    ARG_PTR_TO_RINGBUF_MEM | OBJ_RELEASE,
)
DYN, DYN_R = ARG_PTR_TO_DYNPTR, ARG_PTR_TO_DYNPTR | MEM_RDONLY
INT, VOID = RET_INTEGER, RET_VOID
MAP_VALUE_OR_NULL = RET_PTR_TO_MAP_VALUE | NULL
SOCKET_OR_NULL, SKC_OR_NULL, TCP_SOCK_OR_NULL = (
    RET_PTR_TO_SOCKET | NULL,
    RET_PTR_TO_SOCK_COMMON | NULL,
    RET_PTR_TO_TCP_SOCK | NULL,
)
BTF_OR_NULL = RET_PTR_TO_BTF_ID | NULL
GPL, PKT, SLEEP, FAST = "gpl", "pkt", "sleep", "fastcall"


def _row(
    helper_id: int,
    ret: int,
    args: tuple[int, ...] = (),
    *flags: str,
    sizes: tuple[int, ...] = (),
    btf: tuple[str, ...] = (),
    ret_btf: str = "",
) -> Proto:
    padded = args + (ARG_DONTCARE,) * (5 - len(args))
    arg_sizes = sizes + (0,) * (5 - len(sizes))
    arg_btf = btf + ("",) * (5 - len(btf))
    return Proto(
        helper_id, ret, padded, GPL in flags, PKT in flags, SLEEP in flags, FAST in flags, arg_sizes, arg_btf, ret_btf
    )


# fmt: off
_ROWS = (
    _row(1, MAP_VALUE_OR_NULL, (MAP, KEY), PKT),
    _row(2, INT, (MAP, KEY, VAL, ANY), PKT),
    _row(3, INT, (MAP, KEY), PKT),
    _row(4, INT, (MEM_W, SIZE0, ANY), GPL),
    _row(5, INT),
    _row(6, INT, (MEM_R, SIZE), GPL),
    _row(7, INT),
    _row(8, INT, (), FAST),
    _row(9, INT, (CTX, ANY, MEM_R, SIZE, ANY)),
    _row(10, INT, (CTX, ANY, ANY, ANY, ANY)),
    _row(11, INT, (CTX, ANY, ANY, ANY, ANY)),
    _row(12, VOID, (CTX, MAP, ANY)),
    _row(13, INT, (CTX, ANY, ANY)),
    _row(14, INT),
    _row(15, INT),
    _row(16, INT, (MEM_W, SIZE)),
    _row(17, INT),
    _row(18, INT, (CTX, ANY, ANY)),
    _row(19, INT, (CTX,)),
    _row(20, INT, (CTX, MEM_W, SIZE, ANY)),
    _row(21, INT, (CTX, MEM_R, SIZE, ANY)),
    _row(22, INT, (MAP, ANY), GPL),
    _row(23, INT, (ANY, ANY)),
    _row(24, INT, (CTX,)),
    _row(25, INT, (CTX, MAP, ANY, MEM_R, SIZE0), GPL),
    _row(26, INT, (CTX, ANY, MEM_W, SIZE)),
    _row(27, INT, (CTX, MAP, ANY), GPL),
    _row(28, INT, (MEM_R | NULL, SIZE0, MEM_R | NULL, SIZE0, ANY), PKT),
    _row(29, INT, (CTX, MEM_W, SIZE)),
    _row(30, INT, (CTX, MEM_R, SIZE)),
    _row(31, INT, (CTX, ANY, ANY)),
    _row(32, INT, (CTX, ANY)),
    _row(33, INT, (CTX, MAP, ANY)),
    _row(34, INT, (CTX,)),
    _row(35, INT, (), GPL),
    _row(36, INT, (ANY, MEM_R, SIZE), GPL),
    _row(37, INT, (MAP, ANY)),
    _row(38, INT, (CTX, ANY, ANY)),
    _row(39, INT, (CTX, ANY)),
    _row(40, INT, (CTX, ANY)),
    _row(41, INT, (CTX,)),
    _row(42, INT),
    _row(43, INT, (CTX, ANY, ANY)),
    _row(44, INT, (CTX, ANY)),
    _row(45, INT, (MEM_W, SIZE0, ANY), GPL),
    _row(46, INT, (CTX,)),
    _row(47, INT, (CTX,)),
    _row(48, INT, (CTX, ANY)),
    _row(49, INT, (CTX, ANY, ANY, MEM_R, SIZE)),
    _row(50, INT, (CTX, ANY, ANY, ANY)),
    _row(51, INT, (MAP, ANY, ANY)),
    _row(52, INT, (CTX, MAP, ANY, ANY)),
    _row(53, INT, (CTX, MAP, KEY, ANY), PKT),
    _row(54, INT, (CTX, ANY)),
    _row(55, INT, (MAP, ANY, MEM_W, SIZE), GPL),
    _row(56, INT, (CTX, MEM_W, SIZE), GPL),
    _row(57, INT, (CTX, ANY, ANY, MEM_W, SIZE)),
    _row(58, INT, (CTX, ANY), GPL),
    _row(59, INT, (CTX, ANY)),
    _row(60, INT, (CTX, MAP, ANY, ANY)),
    _row(61, INT, (CTX, ANY)),
    _row(62, INT, (CTX, ANY)),
    _row(63, INT, (CTX, ANY, ANY, ANY)),
    _row(64, INT, (CTX, MEM_R, SIZE)),
    _row(65, INT, (CTX, ANY)),
    _row(66, INT, (CTX, ANY, MEM_W, SIZE, ANY)),
    _row(67, INT, (CTX, MEM_W, SIZE0, ANY), GPL),
    _row(68, INT, (CTX, ANY, MEM_W, SIZE, ANY)),
    _row(69, INT, (CTX, MEM_RW, SIZE, ANY), GPL),
    _row(70, INT, (CTX, MAP, KEY, ANY), PKT),
    _row(71, INT, (CTX, MAP, KEY, ANY)),
    _row(72, INT, (CTX, MAP, KEY, ANY)),
    _row(73, INT, (CTX, ANY, MEM_R, SIZE)),
    _row(74, INT, (CTX, ANY, MEM_R, SIZE)),
    _row(75, INT, (CTX, ANY, ANY)),
    _row(76, INT, (CTX, ANY, MEM_R, SIZE)),
    _row(77, INT, (CTX,), GPL),
    _row(78, INT, (CTX, ANY, ANY, ANY), GPL),
    _row(79, INT, (CTX,)),
    _row(80, INT),
    _row(81, RET_PTR_TO_MAP_VALUE, (MAP, ANY)),
    _row(82, INT, (CTX, MAP, KEY, ANY)),
    _row(83, INT, (CTX, ANY)),
    _row(84, SOCKET_OR_NULL, (CTX, MEM_R, SIZE0, ANY, ANY), PKT),
    _row(85, SOCKET_OR_NULL, (CTX, MEM_R, SIZE0, ANY, ANY), PKT),
    _row(86, INT, (BTF_SKC | OBJ_RELEASE,)),
    _row(87, INT, (MAP, VAL, ANY), PKT),
    _row(88, INT, (MAP, VAL_W)),
    _row(89, INT, (MAP, VAL_W)),
    _row(90, INT, (CTX, ANY, ANY, ANY)),
    _row(91, INT, (CTX, ANY, ANY, ANY)),
    _row(92, INT, (CTX, ANY, ANY), GPL),
    _row(93, VOID, (SPIN,)),
    _row(94, VOID, (SPIN,)),
    _row(95, SOCKET_OR_NULL, (SKC,)),
    _row(96, TCP_SOCK_OR_NULL, (SKC,)),
    _row(97, INT, (CTX,)),
    _row(98, SOCKET_OR_NULL, (SKC,)),
    _row(99, SKC_OR_NULL, (CTX, MEM_R, SIZE0, ANY, ANY), PKT),
    _row(100, INT, (BTF_SKC, MEM_R, SIZE, MEM_R, SIZE), GPL, PKT),
    _row(101, INT, (CTX, MEM_RW, SIZE, ANY)),
    _row(102, INT, (CTX, MEM_W, SIZE)),
    _row(103, INT, (CTX, MEM_W, SIZE)),
    _row(104, INT, (CTX, MEM_R, SIZE)),
    _row(105, INT, (MEM_R, SIZE, ANY, FIXED_W), sizes=(0, 0, 0, 8)),
    _row(106, INT, (MEM_R, SIZE, ANY, FIXED_W), sizes=(0, 0, 0, 8)),
    _row(107, MAP_VALUE_OR_NULL, (MAP, BTF_SKC, VAL | NULL, ANY)),
    _row(108, INT, (MAP, BTF_SKC)),
    _row(109, INT, (ANY,)),
    _row(110, INT, (BTF_SKC, MEM_R, SIZE, MEM_R, SIZE), GPL, PKT),
    _row(111, INT, (BTF, MAP, ANY, MEM_R, SIZE0), GPL, btf=("sk_buff",)),
    _row(112, INT, (MEM_W, SIZE0, ANY), GPL),
    _row(113, INT, (MEM_W, SIZE0, ANY), GPL),
    _row(114, INT, (MEM_W, SIZE0, ANY), GPL),
    _row(115, INT, (MEM_W, SIZE0, ANY), GPL),
    _row(116, INT, (BTF, ANY), btf=("tcp_sock",)),
    _row(117, INT, (ANY,)),
    _row(118, INT),
    _row(119, INT, (CTX, MEM_RW | NULL, SIZE0, ANY), GPL),
    _row(120, INT, (ANY, ANY, MEM_W, SIZE)),
    _row(121, INT, (BTF, MAP, ANY, MEM_R, SIZE0), GPL, btf=("xdp_buff",)),
    _row(122, INT, (CTX | NULL,)),
    _row(123, INT, (ANY,)),
    _row(124, INT, (CTX, BTF_SKC, ANY)),
    _row(125, INT),
    _row(126, INT, (BTF, MEM_R, SIZE, MEM_R | NULL, SIZE0), GPL, btf=("seq_file",)),
    _row(127, INT, (BTF, MEM_R, SIZE0), GPL, btf=("seq_file",)),
    _row(128, INT, (BTF_SKC,)),
    _row(129, INT, (BTF_SKC, ANY)),
    _row(130, INT, (MAP, MEM_R, SIZE0, ANY)),
    _row(131, RET_PTR_TO_MEM | MEM_RINGBUF | NULL, (MAP, ALLOC, ANY)),
    _row(132, VOID, (RECORD, ANY)),
    _row(133, VOID, (RECORD, ANY)),
    _row(134, INT, (MAP, ANY)),
    _row(135, INT, (CTX, ANY)),
    _row(136, BTF_OR_NULL, (BTF_SKC,), ret_btf="tcp6_sock"),
    _row(137, BTF_OR_NULL, (BTF_SKC,), ret_btf="tcp_sock"),
    _row(138, BTF_OR_NULL, (BTF_SKC,), ret_btf="tcp_timewait_sock"),
    _row(139, BTF_OR_NULL, (BTF_SKC,), ret_btf="tcp_request_sock"),
    _row(140, BTF_OR_NULL, (BTF_SKC,), ret_btf="udp6_sock"),
    _row(141, INT, (BTF, MEM_W, SIZE0, ANY), btf=("task_struct",)),
    _row(142, INT, (CTX, MEM_RW, SIZE, ANY)),
    _row(143, INT, (CTX, MEM_R, SIZE, ANY)),
    _row(144, INT, (CTX, ANY, ANY)),
    _row(145, MAP_VALUE_OR_NULL, (MAP, BTF | NULL, VAL | NULL, ANY), btf=("", "inode")),
    _row(146, INT, (MAP, BTF | NULL), btf=("", "inode")),
    _row(147, INT, (BTF, MEM_RW, SIZE0), btf=("path",)),
    _row(148, INT, (MEM_W, SIZE0, ANY), SLEEP),
    _row(149, INT, (MEM_RW, SIZE, MEM_R, SIZE, ANY)),
    _row(150, INT, (BTF, MEM_R, SIZE0, ANY), GPL, btf=("seq_file",)),
    _row(151, INT, (CTX,)),
    _row(152, INT, (ANY, MEM_R | NULL, SIZE0, ANY)),
    _row(153, RET_PTR_TO_MEM_OR_BTF_ID | NULL | MEM_RDONLY, (PERCPU, ANY)),
    _row(154, RET_PTR_TO_MEM_OR_BTF_ID | MEM_RDONLY, (PERCPU,)),
    _row(155, INT, (ANY, ANY)),
    _row(156, MAP_VALUE_OR_NULL, (MAP, BTF | NULL, VAL | NULL, ANY), btf=("", "task_struct")),
    _row(157, INT, (MAP, BTF | NULL), btf=("", "task_struct")),
    _row(158, RET_PTR_TO_BTF_ID | PTR_TRUSTED, (), GPL, ret_btf="task_struct"),
    _row(159, INT, (BTF, ANY), btf=("linux_binprm",)),
    _row(160, INT),
    _row(161, INT, (BTF, MEM_W, SIZE), SLEEP, btf=("inode",)),
    _row(162, BTF_OR_NULL, (BTF,), btf=("file",), ret_btf="socket"),
    _row(163, INT, (CTX, ANY, FIXED_RW, ANY, ANY), GPL, sizes=(0, 0, 4)),
    _row(164, INT, (MAP, FUNC, STACK | NULL, ANY)),
    _row(165, INT, (MEM_RW | NULL, SIZE0, STR, MEM_R | NULL, SIZE0), GPL),
    _row(166, INT, (ANY, MEM_R, SIZE)),
    _row(167, INT, (MEM_R, SIZE, ANY, ANY)),
    _row(168, INT, (ANY,)),
    _row(169, INT, (TIMER, MAP, ANY), GPL),
    _row(170, INT, (TIMER, FUNC), GPL),
    _row(171, INT, (TIMER, ANY, ANY), GPL),
    _row(172, INT, (TIMER,), GPL),
    _row(173, INT, (CTX,), GPL),
    _row(174, INT, (CTX,)),
    _row(175, RET_PTR_TO_BTF_ID, (BTF,), GPL, btf=("task_struct",), ret_btf="pt_regs"),
    _row(176, INT, (MEM_W, SIZE0), GPL),
    _row(177, INT, (MEM_R, SIZE, MEM_R | NULL, SIZE0), GPL),
    _row(178, BTF_OR_NULL, (BTF_SKC,), ret_btf="unix_sock"),
    _row(179, INT, (MEM_R, SIZE0, ANY, FIXED_W), sizes=(0, 0, 0, 8)),
    _row(180, INT, (BTF, ANY, FUNC, STACK | NULL, ANY), btf=("task_struct",)),
    _row(181, INT, (ANY, FUNC, STACK | NULL, ANY)),
    _row(182, INT, (MEM_R, SIZE, STR)),
    _row(183, INT, (CTX, ANY, FIXED_W), sizes=(0, 0, 8)),
    _row(184, INT, (CTX, FIXED_W), sizes=(0, 8)),
    _row(185, INT, (CTX,)),
    _row(186, INT),
    _row(187, INT, (ANY,)),
    _row(188, INT, (CTX,)),
    _row(189, INT, (CTX, ANY, MEM_W, SIZE)),
    _row(190, INT, (CTX, ANY, MEM_R, SIZE)),
    _row(191, INT, (MEM_W, SIZE0, ANY, BTF, ANY), GPL, SLEEP, btf=("", "", "", "task_struct")),
    _row(192, INT, (CTX, ANY, ANY)),
    _row(193, INT, (BTF, MEM_W, SIZE), SLEEP, btf=("file",)),
    _row(194, BTF_OR_NULL, (ARG_KPTR_XCHG_DEST, BTF | NULL | OBJ_RELEASE)),
    _row(195, MAP_VALUE_OR_NULL, (MAP, KEY, ANY), PKT),
    _row(196, BTF_OR_NULL, (SKC,), ret_btf="mptcp_sock"),
    _row(197, INT, (MEM_W, SIZE0, ANY, DYN | DYNPTR_TYPE_LOCAL | MEM_UNINIT | MEM_WRITE)),
    _row(198, INT, (MAP, ANY, ANY, DYN | DYNPTR_TYPE_RINGBUF | MEM_UNINIT | MEM_WRITE)),
    _row(199, VOID, (DYN | DYNPTR_TYPE_RINGBUF | OBJ_RELEASE, ANY)),
    _row(200, VOID, (DYN | DYNPTR_TYPE_RINGBUF | OBJ_RELEASE, ANY)),
    _row(201, INT, (MEM_W, SIZE0, DYN_R, ANY, ANY)),
    _row(202, INT, (DYN_R, ANY, MEM_R, SIZE0, ANY)),
    _row(203, RET_PTR_TO_MEM | NULL, (DYN_R, ANY, ALLOC)),
    _row(204, INT, (FIXED_R, MEM_R, SIZE0), GPL, PKT, sizes=(20,)),
    _row(205, INT, (FIXED_R, MEM_R, SIZE0), GPL, PKT, sizes=(40,)),
    _row(206, INT, (FIXED_R, FIXED_R), GPL, PKT, sizes=(20, 20)),
    _row(207, INT, (FIXED_R, FIXED_R), GPL, PKT, sizes=(40, 20)),
    _row(208, INT),
    _row(209, INT, (MAP, FUNC, STACK | NULL, ANY)),
    _row(210, MAP_VALUE_OR_NULL, (MAP, BTF | NULL, VAL | NULL, ANY), btf=("", "cgroup")),
    _row(211, INT, (MAP, BTF | NULL), btf=("", "cgroup")),
)
# fmt: on

PROTOS = MappingProxyType({row.id: row for row in _ROWS})

# other prototypes of a helper, by program type
VARIANTS: dict[tuple[int, ProgType], Proto] = {
    (124, ProgType.SK_LOOKUP): _row(124, INT, (CTX, SOCK | NULL, ANY)),
    # net/core/filter.c, net/core/bpf_sk_storage.c, kernel/bpf/cgroup.c
    **{
        (17, prog_type): _row(17, INT, (CTX,))
        for prog_type in (
            ProgType.SCHED_CLS,
            ProgType.SCHED_ACT,
            ProgType.LWT_IN,
            ProgType.LWT_OUT,
            ProgType.LWT_XMIT,
            ProgType.LWT_SEG6LOCAL,
        )
    },
    (27, ProgType.PERF_EVENT): _row(27, INT, (CTX, MAP, ANY)),
    (46, ProgType.SK_REUSEPORT): _row(46, INT, (BTF_SKC | NULL,)),
    (49, ProgType.CGROUP_SOCKOPT): _row(49, INT, (BTF_SKC, ANY, ANY, MEM_R, SIZE)),
    (57, ProgType.CGROUP_SOCKOPT): _row(57, INT, (BTF_SKC, ANY, ANY, MEM_W, SIZE)),
    (107, ProgType.CGROUP_SOCK): _row(107, MAP_VALUE_OR_NULL, (MAP, CTX, VAL | NULL, ANY)),
    # net/core/bpf_sk_storage.c, kernel/trace/bpf_trace.c: programs for kernel functions hold BTF pointers
    **{
        (row.id, prog_type): row
        for prog_type in (ProgType.TRACING, ProgType.SYSCALL, ProgType.LSM, ProgType.STRUCT_OPS)
        for row in (
            _row(46, INT, (BTF_SKC | NULL,)),
            _row(49, INT, (BTF_SKC, ANY, ANY, MEM_R, SIZE)),
            _row(57, INT, (BTF_SKC, ANY, ANY, MEM_W, SIZE)),
            _row(188, INT, (BTF,), btf=("xdp_buff",)),
        )
    },
    **{
        (row.id, prog_type): row
        for prog_type in (ProgType.TRACING, ProgType.SYSCALL)
        for row in (
            _row(107, MAP_VALUE_OR_NULL, (MAP, BTF | NULL, VAL | NULL, ANY), btf=("", "sock_common")),
            _row(108, INT, (MAP, BTF | NULL), btf=("", "sock_common")),
        )
    },
}


def proto_for(helper_id: int, prog_type: ProgType) -> Proto:
    """Return the prototype of a helper in programs of a type."""
    return VARIANTS.get((helper_id, prog_type)) or PROTOS[helper_id]


def func_id_name(helper_id: int) -> str:
    """Return the name that the verifier prints for a helper number (``func_id_name``)."""
    return HELPER_NAMES.get(helper_id, "unknown") if helper_id else "bpf_unspec"


# is_sync_callback_calling_function(): for_each_map_elem, find_vma, loop, user_ringbuf_drain
SYNC_CALLBACK_HELPERS = frozenset({164, 180, 181, 209})
# is_async_callback_calling_function(): timer_set_callback
ASYNC_CALLBACK_HELPERS = frozenset({170})
# bpf_helper_changes_pkt_data(), net/core/filter.c
PKT_CHANGING_HELPERS = frozenset(
    {9, 10, 11, 12, 13, 18, 19, 31, 38, 39, 43, 44, 50, 54, 63, 65, 73, 74, 75, 76, 90, 91, 142, 143, 144}
)
# is_ptr_cast_function()
PTR_CAST_HELPERS = frozenset({95, 96, 136, 137, 138, 139, 140, 196})
