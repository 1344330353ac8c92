#include "common.h"
struct foo {
    struct bpf_list_node node;
    int x;
};
struct bar {
    struct bpf_list_node n2;
    struct bpf_refcount ref;
    int y;
    struct bpf_rb_node rb;
};
struct lk {
    struct bpf_spin_lock lock;
    struct bpf_list_node node;
    int z;
};
struct nested {
    struct bpf_spin_lock lock;
    struct bpf_list_head head __contains(foo, node);
    int q;
};

#define pr(n) SEC(".data." #n) __attribute__((aligned(8)))

static pr(A) struct bpf_spin_lock glock;

static pr(A) struct bpf_list_head ghead __contains(foo, node);

static pr(A) struct bpf_list_head ghead2 __contains(bar, n2);

static pr(A) struct bpf_rb_root groot __contains(bar, rb);

static pr(B) struct bpf_spin_lock glock2;

static pr(B) struct bpf_list_head ghead3 __contains(foo, node);
struct map_value {
    struct bpf_spin_lock lock;
    int data;
    struct bpf_list_head head __contains(foo, node);
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, int);
    __type(value, struct map_value);
    __uint(max_entries, 1);
} amap SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, struct map_value);
    __uint(max_entries, 1);
} hmap SEC(".maps");

SEC("tc") int push_ok(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_spin_lock(&glock);
    bpf_list_push_front(&ghead, &f->node);
    bpf_spin_unlock(&glock);
    return 0;
}

SEC("tc") int push_nolock(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_list_push_front(&ghead, &f->node);
    return 0;
}

SEC("tc") int push_wronglock(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_spin_lock(&glock2);
    bpf_list_push_front(&ghead, &f->node);
    bpf_spin_unlock(&glock2);
    return 0;
}

SEC("tc") int push_wrongtype(void *c) {
    struct bar *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_spin_lock(&glock);
    bpf_list_push_front(&ghead, &f->n2);
    bpf_spin_unlock(&glock);
    return 0;
}

SEC("tc") int push_off(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_spin_lock(&glock);
    bpf_list_push_front(&ghead, (void *)f + 8);
    bpf_spin_unlock(&glock);
    return 0;
}

SEC("tc") int push_twice(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_spin_lock(&glock);
    bpf_list_push_front(&ghead, &f->node);
    bpf_list_push_back(&ghead, &f->node);
    bpf_spin_unlock(&glock);
    return 0;
}

SEC("tc") int use_after_unlock(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_spin_lock(&glock);
    bpf_list_push_front(&ghead, &f->node);
    f->x = 1;
    bpf_spin_unlock(&glock);
    f->x = 2;
    return 0;
}

SEC("tc") int read_in_lock(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    f->x = 7;
    bpf_spin_lock(&glock);
    bpf_list_push_front(&ghead, &f->node);
    int r = f->x;
    bpf_spin_unlock(&glock);
    return r;
}

SEC("tc") int pop_ok(void *c) {
    struct bpf_list_node *n;
    bpf_spin_lock(&glock);
    n = bpf_list_pop_front(&ghead);
    bpf_spin_unlock(&glock);
    if (!n)
        return 1;
    struct foo *f = container_of_(n, struct foo, node);
    int x = f->x;
    bpf_obj_drop(f);
    return x;
}

SEC("tc") int pop_leak(void *c) {
    struct bpf_list_node *n;
    bpf_spin_lock(&glock);
    n = bpf_list_pop_back(&ghead);
    bpf_spin_unlock(&glock);
    return n != 0;
}

SEC("tc") int front_ok(void *c) {
    struct bpf_list_node *n;
    int x = 0;
    bpf_spin_lock(&glock);
    n = bpf_list_front(&ghead);
    if (n)
        x = container_of_(n, struct foo, node)->x;
    bpf_spin_unlock(&glock);
    return x;
}

SEC("tc") int front_after(void *c) {
    struct bpf_list_node *n;
    int x = 0;
    bpf_spin_lock(&glock);
    n = bpf_list_back(&ghead);
    bpf_spin_unlock(&glock);
    if (n)
        x = container_of_(n, struct foo, node)->x;
    return x;
}

SEC("tc") int drop_off(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_obj_drop_impl((void *)f + 4, 0);
    return 0;
}

SEC("tc") int drop_twice(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_obj_drop(f);
    bpf_obj_drop(f);
    return 0;
}

SEC("tc") int drop_null(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    bpf_obj_drop(f);
    return 0;
}

SEC("tc") int leak(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    return 0;
}

SEC("tc") int direct_node(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    *(volatile u64 *)&f->node = 1;
    bpf_obj_drop(f);
    return 0;
}

SEC("tc") int direct_head(void *c) {
    return *(volatile u64 *)&ghead;
}

SEC("tc") int direct_oob(void *c) {
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    *(volatile u64 *)((void *)f + 32) = 1;
    bpf_obj_drop(f);
    return 0;
}

SEC("tc") int obj_lock(void *c) {
    struct nested *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    struct foo *g = bpf_obj_new(typeof(*g));
    if (!g) {
        bpf_obj_drop(f);
        return 1;
    }
    bpf_spin_lock(&f->lock);
    bpf_list_push_front(&f->head, &g->node);
    bpf_spin_unlock(&f->lock);
    bpf_obj_drop(f);
    return 0;
}

SEC("tc") int obj_lock_other(void *c) {
    struct nested *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    struct nested *h = bpf_obj_new(typeof(*h));
    if (!h) {
        bpf_obj_drop(f);
        return 1;
    }
    bpf_spin_lock(&f->lock);
    bpf_list_pop_front(&h->head);
    bpf_spin_unlock(&f->lock);
    bpf_obj_drop(f);
    bpf_obj_drop(h);
    return 0;
}

SEC("tc") int map_ok(void *c) {
    int k = 0;
    struct map_value *v = bpf_map_lookup_elem(&hmap, &k);
    if (!v)
        return 0;
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_spin_lock(&v->lock);
    bpf_list_push_back(&v->head, &f->node);
    bpf_spin_unlock(&v->lock);
    return 0;
}

SEC("tc") int map_other(void *c) {
    int k = 0;
    struct map_value *v = bpf_map_lookup_elem(&hmap, &k);
    if (!v)
        return 0;
    struct map_value *w = bpf_map_lookup_elem(&hmap, &k);
    if (!w)
        return 0;
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_spin_lock(&v->lock);
    bpf_list_push_back(&w->head, &f->node);
    bpf_spin_unlock(&v->lock);
    return 0;
}

SEC("tc") int amap_two(void *c) {
    int k = 0;
    struct map_value *v = bpf_map_lookup_elem(&amap, &k);
    if (!v)
        return 0;
    struct foo *f = bpf_obj_new(typeof(*f));
    if (!f)
        return 2;
    bpf_spin_lock(&v->lock);
    bpf_list_push_back(&v->head, &f->node);
    bpf_spin_unlock(&v->lock);
    return 0;
}

SEC("tc") int refc(void *c) {
    struct bar *b = bpf_obj_new(typeof(*b)), *d;
    if (!b)
        return 1;
    d = bpf_refcount_acquire(b);
    bpf_spin_lock(&glock);
    bpf_list_push_front(&ghead2, &b->n2);
    bpf_spin_unlock(&glock);
    d->y = 1;
    bpf_obj_drop(d);
    return 0;
}

SEC("tc") int refc_noref(void *c) {
    struct foo *b = bpf_obj_new(typeof(*b)), *d;
    if (!b)
        return 1;
    d = bpf_refcount_acquire(b);
    bpf_obj_drop(b);
    return 0;
}

SEC("tc") int refc_nonown(void *c) {
    struct bar *b = bpf_obj_new(typeof(*b)), *d;
    if (!b)
        return 1;
    bpf_spin_lock(&glock);
    bpf_list_push_front(&ghead2, &b->n2);
    d = bpf_refcount_acquire(b);
    bpf_spin_unlock(&glock);
    if (!d)
        return 0;
    d->y = 1;
    bpf_obj_drop(d);
    return 0;
}

SEC("tc") int refc_nonown_nonull(void *c) {
    struct bar *b = bpf_obj_new(typeof(*b)), *d;
    if (!b)
        return 1;
    bpf_spin_lock(&glock);
    bpf_list_push_front(&ghead2, &b->n2);
    d = bpf_refcount_acquire(b);
    bpf_spin_unlock(&glock);
    bpf_obj_drop(d);
    return 0;
}

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b) {
    return container_of_(a, struct bar, rb)->y < container_of_((void *)b, struct bar, rb)->y;
}

static bool less_lock(struct bpf_rb_node *a, const struct bpf_rb_node *b) {
    bpf_spin_unlock(&glock);
    return 0;
}

static bool less_first(struct bpf_rb_node *a, const struct bpf_rb_node *b) {
    bpf_rbtree_first(&groot);
    return 0;
}

static bool less_rm(struct bpf_rb_node *a, const struct bpf_rb_node *b) {
    bpf_rbtree_remove(&groot, a);
    return 0;
}

static bool less_add(struct bpf_rb_node *a, const struct bpf_rb_node *b) {
    bpf_rbtree_add(&groot, a, less);
    return 0;
}

static bool less_helper(struct bpf_rb_node *a, const struct bpf_rb_node *b) {
    return bpf_get_prandom_u32() & 1;
}

static bool less_rcu(struct bpf_rb_node *a, const struct bpf_rb_node *b) {
    bpf_rcu_read_lock();
    bpf_rcu_read_unlock();
    return 0;
}

#define T(n, l)                                                                                                        \
    SEC("tc") int n(void *c) {                                                                                         \
        struct bar *b = bpf_obj_new(typeof(*b));                                                                       \
        if (!b)                                                                                                        \
            return 1;                                                                                                  \
        bpf_spin_lock(&glock);                                                                                         \
        bpf_rbtree_add(&groot, &b->rb, l);                                                                             \
        bpf_spin_unlock(&glock);                                                                                       \
        return 0;                                                                                                      \
    }
T(rb_ok, less)
T(rb_lock, less_lock) T(rb_first_cb, less_first) T(rb_rm_cb, less_rm) T(rb_add_cb, less_add) T(rb_helper, less_helper)
    T(rb_rcu, less_rcu) SEC("tc") int rb_nolock(void *c) {
    struct bar *b = bpf_obj_new(typeof(*b));
    if (!b)
        return 1;
    bpf_rbtree_add(&groot, &b->rb, less);
    return 0;
}

SEC("tc") int rb_rm(void *c) {
    struct bpf_rb_node *n;
    struct bar *b;
    bpf_spin_lock(&glock);
    n = bpf_rbtree_first(&groot);
    if (!n) {
        bpf_spin_unlock(&glock);
        return 1;
    }
    n = bpf_rbtree_remove(&groot, n);
    bpf_spin_unlock(&glock);
    if (!n)
        return 2;
    b = container_of_(n, struct bar, rb);
    int y = b->y;
    bpf_obj_drop(b);
    return y;
}

SEC("tc") int rb_rm_own(void *c) {
    struct bar *b = bpf_obj_new(typeof(*b));
    if (!b)
        return 1;
    struct bpf_rb_node *n;
    bpf_spin_lock(&glock);
    n = bpf_rbtree_remove(&groot, &b->rb);
    bpf_spin_unlock(&glock);
    bpf_obj_drop(b);
    if (n)
        bpf_obj_drop(container_of_(n, struct bar, rb));
    return 0;
}

SEC("tc") int rb_walk(void *c) {
    struct bpf_rb_node *n;
    int s = 0;
    bpf_spin_lock(&glock);
    n = bpf_rbtree_root(&groot);
    while (n && s < 10) {
        s++;
        n = bpf_rbtree_left(&groot, n);
    }
    bpf_spin_unlock(&glock);
    return s;
}

SEC("tc") int rb_right_after(void *c) {
    struct bpf_rb_node *n;
    bpf_spin_lock(&glock);
    n = bpf_rbtree_root(&groot);
    bpf_spin_unlock(&glock);
    bpf_spin_lock(&glock);
    if (n)
        n = bpf_rbtree_right(&groot, n);
    bpf_spin_unlock(&glock);
    return 0;
}

SEC("tc") int rb_wrong_root(void *c) {
    struct bar *b = bpf_obj_new(typeof(*b));
    if (!b)
        return 1;
    bpf_spin_lock(&glock);
    bpf_rbtree_add((void *)&ghead2, &b->rb, less);
    bpf_spin_unlock(&glock);
    return 0;
}

SEC("tc") int rb_wrong_node(void *c) {
    struct bar *b = bpf_obj_new(typeof(*b));
    if (!b)
        return 1;
    bpf_spin_lock(&glock);
    bpf_rbtree_add(&groot, (void *)&b->n2, less);
    bpf_spin_unlock(&glock);
    return 0;
}

SEC("tc") int helper_in_lock(void *c) {
    bpf_spin_lock(&glock);
    bpf_ktime_get_ns();
    bpf_spin_unlock(&glock);
    return 0;
}

SEC("tc") int new_in_lock(void *c) {
    bpf_spin_lock(&glock);
    struct foo *f = bpf_obj_new(typeof(*f));
    bpf_spin_unlock(&glock);
    if (f)
        bpf_obj_drop(f);
    return 0;
}

SEC("tc") int exit_in_lock(void *c) {
    bpf_spin_lock(&glock);
    return 0;
}

SEC("tp_btf/task_newtask") int BPF_PROG(tracing) {
    bpf_spin_lock(&glock);
    bpf_spin_unlock(&glock);
    return 0;
}

SEC("tc") int new_int(void *c) {
    void *f = bpf_obj_new_impl(1, 0);
    if (f)
        bpf_obj_drop_impl(f, 0);
    return 0;
}

SEC("tc") int new_big(void *c) {
    void *f = bpf_obj_new_impl(0x100000001, 0);
    if (f)
        bpf_obj_drop_impl(f, 0);
    return 0;
}

SEC("tc") int new_var(struct __sk_buff *c) {
    void *f = bpf_obj_new_impl(c->len, 0);
    if (f)
        bpf_obj_drop_impl(f, 0);
    return 0;
}
