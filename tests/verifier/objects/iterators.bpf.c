#include "common.h"
const volatile int zero = 0;
int glob[10];
volatile int sink;

#define bpf_for_(i, start, end)                                                                                        \
    for (struct bpf_iter_num ___it __attribute__((aligned(8), cleanup(bpf_iter_num_destroy))),                         \
         *___p                                                                                                         \
         __attribute__((unused)) = (bpf_iter_num_new(&___it, (start), (end)), (void)bpf_iter_num_destroy, (void *)0);  \
         ({                                                                                                            \
             int *___t = bpf_iter_num_next(&___it);                                                                    \
             (___t && ((i) = *___t, (i) >= (start) && (i) < (end)));                                                   \
         });)

SEC("raw_tp") int ok_sum(void *ctx) {
    int i, s = 0;
    bpf_for_(i, 0, 10) s += glob[i];
    return s;
}

SEC("raw_tp") int no_bound(void *ctx) {
    struct bpf_iter_num it;
    int *v, s = 0;
    bpf_iter_num_new(&it, 0, 20);
    while ((v = bpf_iter_num_next(&it))) {
        int i = *v;
        if (i >= 0 && i < 20)
            s += glob[i];
    }
    bpf_iter_num_destroy(&it);
    return s;
}

SEC("raw_tp") int leak(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    return 0;
}

SEC("raw_tp") int leak_some(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    if (bpf_get_prandom_u32())
        bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int no_init(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_next(&it);
    return 0;
}

SEC("raw_tp") int no_init2(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int twice(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    bpf_iter_num_new(&it, 0, 3);
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int next_after_destroy(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    bpf_iter_num_destroy(&it);
    bpf_iter_num_next(&it);
    return 0;
}

SEC("raw_tp") int double_destroy(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    bpf_iter_num_destroy(&it);
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int clobber(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    *(volatile int *)&it = 5;
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int rd(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    int x = *(volatile int *)&it;
    bpf_iter_num_destroy(&it);
    return x;
}

SEC("raw_tp") int probe_over(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    bpf_probe_read_kernel(&it, 8, ctx);
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int nonnull_deref(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    int x = *bpf_iter_num_next(&it);
    bpf_iter_num_destroy(&it);
    return x;
}

SEC("raw_tp") int write_elem(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    int *x = bpf_iter_num_next(&it);
    if (x)
        *x = 1;
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int use_after(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    int *x = bpf_iter_num_next(&it);
    bpf_iter_num_destroy(&it);
    if (x)
        return *x;
    return 0;
}

SEC("raw_tp") int in_map(void *ctx) {
    bpf_iter_num_new((void *)glob, 0, 3);
    return 0;
}

SEC("raw_tp") int inf(void *ctx) {
    struct bpf_iter_num it;
    int *v;
    bpf_iter_num_new(&it, 0, 3);
    while ((v = bpf_iter_num_next(&it))) {
        while (zero == 0)
            sink++;
    }
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int nested(void *ctx) {
    int i, j, s = 0;
    bpf_for_(i, 0, 10) bpf_for_(j, 0, 10) s += glob[i] * glob[j];
    return s;
}

SEC("raw_tp") int brk(void *ctx) {
    int i, s = 0;
    bpf_for_(i, 0, 1000) {
        s += i;
        if (s > 100)
            break;
    }
    return s;
}

SEC("raw_tp") int grow_bad(void *ctx) {
    int i, s = 0;
    unsigned k = 0;
    bpf_for_(i, 0, 1000) {
        s += glob[k];
        k++;
    }
    return s;
}

static __noinline int sub(struct bpf_iter_num *it) {
    int *v, s = 0;
    while ((v = bpf_iter_num_next(it)))
        s += *v;
    return s;
}

SEC("raw_tp") int subprog(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    int s = sub(&it);
    bpf_iter_num_destroy(&it);
    return s;
}

static __noinline int cb(__u64 i, void *c) {
    struct bpf_iter_num it;
    int *v;
    bpf_iter_num_new(&it, 0, 3);
    while ((v = bpf_iter_num_next(&it)))
        (*(int *)c)++;
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int in_cb(void *ctx) {
    int s = 0;
    bpf_loop(10, cb, &s, 0);
    return s;
}

static __noinline int cb2(__u64 i, void *c) {
    bpf_iter_num_next(c);
    return 0;
}

SEC("raw_tp") int next_in_cb(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    bpf_loop(10, cb2, &it, 0);
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int drained(void *ctx) {
    struct bpf_iter_num it;
    bpf_iter_num_new(&it, 0, 3);
    bpf_iter_num_next(&it);
    bpf_iter_num_next(&it);
    bpf_iter_num_next(&it);
    bpf_iter_num_destroy(&it);
    return 0;
}

SEC("raw_tp") int two(void *ctx) {
    struct bpf_iter_num a, b;
    int *v, s = 0;
    bpf_iter_num_new(&a, 0, 3);
    bpf_iter_num_new(&b, 0, 3);
    while ((v = bpf_iter_num_next(&a))) {
        v = bpf_iter_num_next(&b);
        if (v)
            s += *v;
    }
    bpf_iter_num_destroy(&b);
    bpf_iter_num_destroy(&a);
    return s;
}

SEC("raw_tp") int spilled(void *ctx) {
    int arr[4] = {};
    int i, k = 0;
    bpf_for_(i, 0, 100) {
        arr[i & 3] = k;
        k += i;
        bpf_probe_read_kernel(&arr, 8, ctx);
    }
    return arr[zero & 3];
}

SEC("raw_tp") int alias(void *ctx) {
    struct bpf_iter_num it;
    int *a, *b;
    bpf_iter_num_new(&it, 0, 3);
    a = bpf_iter_num_next(&it);
    b = bpf_iter_num_next(&it);
    int r = 0;
    if (a && b)
        r = *a + *b;
    bpf_iter_num_destroy(&it);
    return r;
}

SEC("raw_tp") int maygoto(void *ctx) {
    int i, s = 0;
    for (i = 0; i < 1000; i++) {
        asm volatile goto("may_goto %l[out]" :: ::out);
        s += i;
    }
out:
    return s;
}

SEC("raw_tp") int align_bad(void *ctx) {
    char buf[24];
    bpf_iter_num_new((void *)(buf + 4), 0, 3);
    return 0;
}
