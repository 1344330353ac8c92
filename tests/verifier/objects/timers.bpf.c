#include "common.h"
struct tv {
    int pad;
    struct bpf_timer t;
    int x;
};
struct wv {
    int pad;
    struct bpf_wq w;
    struct bpf_spin_lock l;
};
struct twv {
    int pad;
    struct bpf_task_work tw;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, int);
    __type(value, struct tv);
    __uint(max_entries, 2);
} ta SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, struct tv);
    __uint(max_entries, 2);
} th SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, int);
    __type(value, struct wv);
    __uint(max_entries, 2);
} wa SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, struct wv);
    __uint(max_entries, 2);
} wh SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, struct twv);
    __uint(max_entries, 2);
} twm SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, u64);
    __uint(max_entries, 2);
} plain SEC(".maps");

static int cb(void *m, int *k, struct tv *v) {
    v->x++;
    return 0;
}

static int cb_ret(void *m, int *k, struct tv *v) {
    return v->x;
}

static int cb_restart(void *m, int *k, struct tv *v) {
    bpf_timer_start(&v->t, 1000, 0);
    return 0;
}

static int cb_self(void *m, int *k, struct tv *v) {
    bpf_timer_set_callback(&v->t, cb);
    bpf_timer_start(&v->t, 1000, 0);
    return 0;
}

static int cb_loop(void *m, int *k, struct tv *v) {
    for (int i = 0; i < 100; i++)
        v->x += i;
    return 0;
}

static int cb_kw(void *m, int *k, struct tv *v) {
    *k = 1;
    return 0;
}

#define G                                                                                                              \
    int k = 0;                                                                                                         \
    struct tv *v = bpf_map_lookup_elem(&ta, &k);                                                                       \
    if (!v)                                                                                                            \
        return 0;

#define GH                                                                                                             \
    int k = 0;                                                                                                         \
    struct tv *v = bpf_map_lookup_elem(&th, &k);                                                                       \
    if (!v)                                                                                                            \
        return 0;

#define P(n) SEC("tc") int n(struct __sk_buff *s)
P(ok) {
    G bpf_timer_init(&v->t, &ta, 1);
    bpf_timer_set_callback(&v->t, cb);
    bpf_timer_start(&v->t, 0, 0);
    return 0;
}
P(okh) {
    GH bpf_timer_init(&v->t, &th, 1);
    bpf_timer_set_callback(&v->t, cb_restart);
    bpf_timer_start(&v->t, 0, 0);
    bpf_timer_cancel(&v->t);
    return 0;
}
P(wrongmap) {
    GH bpf_timer_init(&v->t, &ta, 1);
    return 0;
}
P(ret) {
    G bpf_timer_set_callback(&v->t, cb_ret);
    return 0;
}
P(nest) {
    G bpf_timer_set_callback(&v->t, cb_self);
    return 0;
}
P(loop) {
    G bpf_timer_set_callback(&v->t, cb_loop);
    return 0;
}
P(keyw) {
    G bpf_timer_set_callback(&v->t, cb_kw);
    return 0;
}
P(off) {
    G bpf_timer_start((void *)v, 0, 0);
    return 0;
}
P(varoff) {
    G u32 i = s->len & 16;
    asm volatile("" : "+r"(i));
    bpf_timer_start((void *)v + i, 0, 0);
    return 0;
}
P(direct) {
    G return *(volatile int *)&v->t;
}
P(stack) {
    struct bpf_timer t;
    bpf_timer_start(&t, 0, 0);
    return 0;
}
P(noval) {
    int k = 0;
    u64 *v = bpf_map_lookup_elem(&plain, &k);
    if (!v)
        return 0;
    bpf_timer_start((void *)v, 0, 0);
    return 0;
}
P(two) {
    G bpf_timer_set_callback(&v->t, s->len ? cb : cb_loop);
    return 0;
}
P(twice) {
    G bpf_timer_set_callback(&v->t, cb);
    bpf_timer_set_callback(&v->t, cb);
    return 0;
}

SEC("tp_btf/task_newtask") int BPF_PROG(tracing) {
    G bpf_timer_start(&v->t, 0, 0);
    return 0;
}

static int wcb(void *m, int *k, void *v) {
    return 0;
}

static int wcb_sleep(void *m, int *k, struct wv *v) {
    char b[4];
    bpf_copy_from_user(b, 4, 0);
    return 0;
}

static int wcb_rcu(void *m, int *k, struct wv *v) {
    bpf_rcu_read_lock();
    bpf_rcu_read_unlock();
    return 0;
}

#define W                                                                                                              \
    int k = 0;                                                                                                         \
    struct wv *v = bpf_map_lookup_elem(&wa, &k);                                                                       \
    if (!v)                                                                                                            \
        return 0;
P(wq_ok) {
    W bpf_wq_init(&v->w, (void *)&wa, 0);
    bpf_wq_set_callback_impl(&v->w, (void *)wcb, 0, 0);
    bpf_wq_start(&v->w, 0);
    return 0;
}
P(wq_sleep) {
    W bpf_wq_set_callback_impl(&v->w, (void *)wcb_sleep, 0, 0);
    return 0;
}
P(wq_rcu) {
    W bpf_wq_set_callback_impl(&v->w, (void *)wcb_rcu, 0, 0);
    return 0;
}
P(wq_wrongmap) {
    W bpf_wq_init(&v->w, (void *)&wh, 0);
    return 0;
}
P(wq_off) {
    W bpf_wq_init((void *)v, (void *)&wa, 0);
    return 0;
}
P(wq_stack) {
    W struct bpf_wq q;
    bpf_wq_init(&q, (void *)&wa, 0);
    return 0;
}
P(wq_notmap) {
    W bpf_wq_init(&v->w, (void *)v, 0);
    return 0;
}
P(wq_lock) {
    W bpf_spin_lock(&v->l);
    bpf_wq_start(&v->w, 0);
    bpf_spin_unlock(&v->l);
    return 0;
}

static int twcb(void *m, void *k, void *v) {
    return 5;
}

#define TW                                                                                                             \
    int k = 0;                                                                                                         \
    struct twv *v = bpf_map_lookup_elem(&twm, &k);                                                                     \
    if (!v)                                                                                                            \
        return 0;

SEC("tp_btf/task_newtask") int BPF_PROG(tw_ok, struct task_struct *t) {
    TW return bpf_task_work_schedule_signal_impl(t, &v->tw, (void *)&twm, (void *)twcb, 0);
}

SEC("tp_btf/task_newtask") int BPF_PROG(tw_off, struct task_struct *t) {
    TW return bpf_task_work_schedule_resume_impl(t, (void *)v, (void *)&twm, (void *)twcb, 0);
}

SEC("tp_btf/task_newtask") int BPF_PROG(tw_null, struct task_struct *t) {
    TW return bpf_task_work_schedule_resume_impl(0, &v->tw, (void *)&twm, (void *)twcb, 0);
}
