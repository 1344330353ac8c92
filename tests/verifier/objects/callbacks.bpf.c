#include "common.h"

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, int);
    __type(value, u64);
    __uint(max_entries, 4);
} values SEC(".maps");

struct inner {
    u64 number;
};

struct outer {
    u64 number;
    struct inner __kptr *inner;
};

static int first(u64 i, void *ctx) {
    return bpf_ktime_get_ns() & 1;
}

static int second(u64 i, void *ctx) {
    return bpf_get_prandom_u32() & 1;
}

static __noinline int called(int bits) {
    return bpf_get_prandom_u32() & bits;
}

SEC("socket") int first_is_dead(void *ctx) {
    return bpf_loop(0, first, 0, 0) + bpf_loop(2, second, 0, 0);
}

SEC("socket") int last_is_dead(void *ctx) {
    return bpf_loop(2, first, 0, 0) + bpf_loop(0, second, 0, 0);
}

SEC("socket") int dead_behind_function(void *ctx) {
    return called(1) + bpf_loop(0, second, 0, 0);
}

SEC("socket") int only_one_is_dead(void *ctx) {
    return bpf_loop(0, second, 0, 0);
}

SEC("socket") int dead_behind_lookup(void *ctx) {
    int key = 0;
    u64 *value = bpf_map_lookup_elem(&values, &key);
    return (value ? *value : 1) + bpf_loop(2, first, 0, 0) + bpf_loop(0, second, 0, 0);
}

SEC("tc") int exchanges_unchecked(void *ctx) {
    struct outer *outer = bpf_obj_new(struct outer);
    struct inner *inner;
    if (!outer)
        return 0;
    inner = bpf_obj_new(struct inner);
    inner = bpf_kptr_xchg(&outer->inner, inner);
    if (inner)
        bpf_obj_drop(inner);
    bpf_obj_drop(outer);
    return 0;
}
