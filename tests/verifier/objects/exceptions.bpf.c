#include "common.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, u64);
    __uint(max_entries, 2);
} h SEC(".maps");

static __noinline int sub(struct __sk_buff *s) {
    if (s->len)
        bpf_throw(32);
    return s->len;
}

SEC("tc") int always(struct __sk_buff *s) {
    bpf_throw(64);
    return 0;
}

SEC("tc") int insub(struct __sk_buff *s) {
    return sub(s);
}

SEC("tc") int cond(struct __sk_buff *s) {
    if (s->mark == 5)
        bpf_throw(s->len);
    return 1;
}

SEC("tc") int ref(struct __sk_buff *s) {
    struct task_struct *t = bpf_task_from_pid(1);
    if (!t)
        return 0;
    bpf_throw(0);
    bpf_task_release(t);
    return 0;
}

SEC("tc") int refsub(struct __sk_buff *s) {
    struct task_struct *t = bpf_task_from_pid(1);
    if (!t)
        return 0;
    sub(s);
    bpf_task_release(t);
    return 0;
}

static int cb(u64 i, void *c) {
    bpf_throw(0);
    return 0;
}

SEC("tc") int incb(struct __sk_buff *s) {
    bpf_loop(5, cb, 0, 0);
    return 0;
}

static int cb2(u64 i, void *c) {
    sub(c);
    return 0;
}

SEC("tc") int insubcb(struct __sk_buff *s) {
    bpf_loop(5, cb2, s, 0);
    return 0;
}

SEC("tc") int rcu(struct __sk_buff *s) {
    bpf_rcu_read_lock();
    bpf_throw(0);
    bpf_rcu_read_unlock();
    return 0;
}

SEC("tc") int preempt(struct __sk_buff *s) {
    bpf_preempt_disable();
    bpf_throw(0);
    bpf_preempt_enable();
    return 0;
}

SEC("cgroup_skb/ingress") int range(struct __sk_buff *s) {
    bpf_throw(5);
    return 0;
}

SEC("cgroup_skb/ingress") int range_ok(struct __sk_buff *s) {
    bpf_throw(1);
    return 0;
}

SEC("cgroup_skb/ingress") int range_unk(struct __sk_buff *s) {
    bpf_throw(s->len);
    return 0;
}
__noinline int glob(struct __sk_buff *s) {
    bpf_throw(s->len);
    return 0;
}

SEC("tc") int inglob(struct __sk_buff *s) {
    return glob(s);
}

SEC("tc") int lockthrow(struct __sk_buff *s) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    bpf_throw(1);
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("kprobe/x") int kp(void *s) {
    bpf_throw(1);
    return 0;
}

SEC("xdp") int x(void *s) {
    bpf_throw(1);
    return 0;
}

SEC("xdp") int ptr(void *s) {
    bpf_throw((u64)s);
    return 0;
}


#define __caught_by(name) __attribute__((btf_decl_tag("exception_callback:" #name)))

__noinline int catches(u64 cookie) {
    return cookie + 1;
}

__noinline int catches_pointer(void *cookie) {
    return 1;
}

__noinline int catches_two(u64 cookie, u64 more) {
    return cookie + more;
}

__noinline int catches_and_throws(u64 cookie) {
    bpf_throw(cookie);
    return 1;
}

static __noinline int catches_static(u64 cookie) {
    return cookie;
}

SEC("tc") __caught_by(catches) int caught(struct __sk_buff *s) {
    bpf_throw(s->len);
    return 0;
}

SEC("tc") __caught_by(catches) int caught_in_sub(struct __sk_buff *s) {
    return sub(s) + glob(s);
}

SEC("tc") __caught_by(catches) int caught_by_two(struct __sk_buff *s) {
    bpf_throw(1);
    return 0;
}

SEC("tc") __caught_by(catches) __caught_by(catches_two) int named_twice(struct __sk_buff *s) {
    bpf_throw(1);
    return 0;
}

SEC("tc") __caught_by(catches) int never_thrown(struct __sk_buff *s) {
    return s->len;
}

SEC("tc") __caught_by(catches_pointer) int caught_pointer(struct __sk_buff *s) {
    bpf_throw(1);
    return 0;
}

SEC("tc") __caught_by(catches_two) int caught_two(struct __sk_buff *s) {
    bpf_throw(1);
    return 0;
}

SEC("tc") __caught_by(catches_and_throws) int thrown_again(struct __sk_buff *s) {
    bpf_throw(1);
    return 0;
}

SEC("tc") __caught_by(catches) int called_and_caught(struct __sk_buff *s) {
    if (s->mark)
        bpf_throw(1);
    return catches(s->len);
}

SEC("cgroup_skb/ingress") __caught_by(catches) int caught_range(struct __sk_buff *s) {
    bpf_throw(1);
    return 1;
}
