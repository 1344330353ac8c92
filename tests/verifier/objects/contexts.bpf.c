#include "common.h"
#define __ctx __attribute__((btf_decl_tag("arg:ctx")))

__weak int words(u64 *ctx __ctx) {
    return 0;
}

__weak int raw_args(struct bpf_raw_tracepoint_args *ctx __ctx) {
    return 0;
}

__weak int task_iterator(struct bpf_iter__task *ctx __ctx) {
    return 0;
}

__weak int packet(struct __sk_buff *ctx __ctx) {
    return 0;
}

SEC("tp_btf/sys_enter") int tp_words(void *ctx) {
    return words(ctx);
}

SEC("tp_btf/sys_enter") int tp_raw_args(void *ctx) {
    return raw_args(ctx);
}

SEC("tp_btf/sys_enter") int tp_packet(void *ctx) {
    return packet(ctx);
}

SEC("raw_tp/sys_enter") int raw_words(void *ctx) {
    return words(ctx) + raw_args(ctx);
}

SEC("iter/task") int iterates_typed(struct bpf_iter__task *ctx) {
    return task_iterator(ctx) & 1;
}

SEC("iter/task") int iterates_words(struct bpf_iter__task *ctx) {
    return words(ctx) & 1;
}

SEC("iter/task") int iterates_raw_args(struct bpf_iter__task *ctx) {
    return raw_args(ctx) & 1;
}

SEC("xdp") int xdp_packet(struct xdp_md *ctx) {
    return packet((void *)ctx);
}

SEC("kprobe.session/bpf_fentry_test1") int cookie(struct pt_regs *ctx) {
    u64 *kept = bpf_session_cookie();
    *kept = 5;
    return 0;
}

SEC("kprobe.session/bpf_fentry_test1") int beyond_cookie(struct pt_regs *ctx) {
    u64 *kept = bpf_session_cookie();
    kept[1] = 5;
    return 0;
}

SEC("iter.s/bpf_map") int arena_of_iterator(struct bpf_iter__bpf_map *ctx) {
    struct bpf_map *map = ctx->map;
    if (map)
        bpf_arena_alloc_pages(map, 0, map->max_entries, 0, 0);
    return 0;
}

SEC("iter.s/bpf_map") int file_as_arena(struct bpf_iter__bpf_map *ctx) {
    bpf_arena_alloc_pages((void *)ctx->meta->seq, 0, 1, 0, 0);
    return 0;
}

struct {
    __uint(type, BPF_MAP_TYPE_SOCKMAP);
    __uint(max_entries, 4);
    __type(key, u32);
    __type(value, u64);
} socks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, 4);
    __type(key, u32);
    __type(value, u64);
} hashed SEC(".maps");

SEC("iter/sockmap") int fills_sockmap(struct bpf_iter__sockmap *ctx) {
    u32 key = 1;
    if (ctx->sk)
        bpf_map_update_elem(&socks, &key, ctx->sk, 0);
    else
        bpf_map_delete_elem(&hashed, &key);
    return 0;
}

__noinline int unnamed(struct { int a; } *p __attribute__((btf_decl_tag("arg:untrusted")))) {
    return p->a;
}

SEC("tp_btf/task_newtask") int passes_unnamed(u64 *ctx) {
    return unnamed((void *)ctx);
}

static __noinline int large(int number) {
    char bytes[300];
    bpf_get_current_comm(bytes, sizeof(bytes));
    return bytes[number & 15];
}

SEC("tp_btf/sys_enter") int stack_of_its_own(void *ctx) {
    char bytes[300];
    bpf_get_current_comm(bytes, sizeof(bytes));
    return bytes[3] + large(bytes[1]);
}

SEC("xdp") int stack_too_large(void *ctx) {
    char bytes[300] = {};
    return bytes[3] + large(bytes[1] + bpf_get_prandom_u32());
}
