"""The programs by which engines are compared: small, each with one thing that it does most."""

FRAME = bytes.fromhex("020000000002020000000001080045000580000100004011665a0a0000010a000002") + bytes(1480)
LCG = """
    r0 = 1; r1 = 1000; r2 = 6364136223846793005 ll
    l: r0 *= r2; r0 += 1442695; r1 -= 1; if r1 != 0 goto l
    r0 &= 1; exit
"""
CHECKSUM = """
    r2 = *(u32 *)(r1 + 0); r3 = *(u32 *)(r1 + 4); r0 = 0; r4 = 750
    r5 = r2; r5 += 1500; if r5 > r3 goto out
    l: r5 = *(u16 *)(r2 + 0); r0 += r5; r2 += 2; r4 -= 1; if r4 != 0 goto l
    out: r0 &= 1; exit
"""
PARSER = """
    r7 = 50; r8 = *(u32 *)(r1 + 0); r9 = *(u32 *)(r1 + 4)
    again: r2 = r8; r3 = r9; r6 = 0
    r5 = r2; r5 += 34; if r5 > r3 goto out
    r4 = *(u16 *)(r2 + 12); if r4 != 8 goto out
    r4 = *(u8 *)(r2 + 14); r4 &= 15; if r4 != 5 goto out
    r4 = *(u8 *)(r2 + 23); r6 = 1; if r4 == 17 goto count
    r6 = 2; if r4 == 6 goto count
    r6 = 3
    count: *(u32 *)(r10 - 4) = r6; r2 = r10; r2 += -4; r1 = map_fd[{array}] ll; call bpf_map_lookup_elem
    if r0 == 0 goto out
    r1 = 1; lock *(u64 *)(r0 + 0) += r1
    out: r7 -= 1; if r7 != 0 goto again
    r0 = 2; exit
"""
HASH = """
    *(u32 *)(r10 - 4) = 7; *(u64 *)(r10 - 16) = 9
    r2 = r10; r2 += -4; r1 = map_fd[{hash}] ll; call bpf_map_lookup_elem
    r2 = r10; r2 += -4; r3 = r10; r3 += -16; r4 = 0; r1 = map_fd[{hash}] ll; call bpf_map_update_elem
    r0 = 2; exit
"""
CHAIN = "r2 = map_fd[{progs}] ll; r3 = 0; call bpf_tail_call; r0 = 2; exit"
# 34 programs each, of which every one goes on to the next: the index is a constant, or one that only the run knows
CHAIN_LENGTH = 33
DIRECT = "r2 = map_fd[{direct}] ll; r3 = {next}; call bpf_tail_call; r0 = 2; exit"
COMPUTED = "r3 = *(u32 *)(r1 + 16); r3 &= 1; r3 += {next}; r2 = map_fd[{computed}] ll; call bpf_tail_call; r0 = 2; exit"
PROGRAMS = {"LCG loop": LCG, "checksum": CHECKSUM, "parser x50": PARSER, "hash": HASH, "tail calls": CHAIN}
EMPTY = "r0 = 2; exit"
