"""Types of registers, and the flags that registers, arguments and results share (include/linux/bpf.h, v6.18).

The low byte is the base type, the flags lie above it. The numbers of the flags are ours: no program sees them.
"""

__all__ = ["BASE_TYPE_MASK"]

# enum bpf_reg_type: the base types
NOT_INIT = 0
SCALAR_VALUE = 1
PTR_TO_CTX = 2
CONST_PTR_TO_MAP = 3
PTR_TO_MAP_VALUE = 4
PTR_TO_MAP_KEY = 5
PTR_TO_STACK = 6
PTR_TO_PACKET_META = 7
PTR_TO_PACKET = 8
PTR_TO_PACKET_END = 9
PTR_TO_FLOW_KEYS = 10
PTR_TO_SOCKET = 11
PTR_TO_SOCK_COMMON = 12
PTR_TO_TCP_SOCK = 13
PTR_TO_TP_BUFFER = 14
PTR_TO_XDP_SOCK = 15
PTR_TO_BTF_ID = 16
PTR_TO_MEM = 17
PTR_TO_ARENA = 18
PTR_TO_BUF = 19
PTR_TO_FUNC = 20
CONST_PTR_TO_DYNPTR = 21

# enum bpf_type_flag
BASE_TYPE_MASK = 0xFF
PTR_MAYBE_NULL = 1 << 8
MEM_RDONLY = 1 << 9
MEM_RINGBUF = 1 << 10
MEM_USER = 1 << 11
MEM_PERCPU = 1 << 12
OBJ_RELEASE = 1 << 13
PTR_UNTRUSTED = 1 << 14
MEM_UNINIT = 1 << 15
DYNPTR_TYPE_LOCAL = 1 << 16
DYNPTR_TYPE_RINGBUF = 1 << 17
MEM_FIXED_SIZE = 1 << 18
MEM_ALLOC = 1 << 19
PTR_TRUSTED = 1 << 20
MEM_RCU = 1 << 21
NON_OWN_REF = 1 << 22
DYNPTR_TYPE_SKB = 1 << 23
DYNPTR_TYPE_XDP = 1 << 24
MEM_ALIGNED = 1 << 25
MEM_WRITE = 1 << 26
DYNPTR_TYPE_FLAG_MASK = DYNPTR_TYPE_LOCAL | DYNPTR_TYPE_RINGBUF | DYNPTR_TYPE_SKB | DYNPTR_TYPE_XDP
