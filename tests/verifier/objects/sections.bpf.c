#include "common.h"
struct lv {
    struct bpf_res_spin_lock l;
    int a;
    struct bpf_res_spin_lock l2x;
};
struct l1 {
    int p;
    struct bpf_res_spin_lock l;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, int);
    __type(value, struct l1);
    __uint(max_entries, 2);
} m SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, struct l1);
    __uint(max_entries, 2);
} hm SEC(".maps");

#define P(n) SEC("tc") int n(struct __sk_buff *s)

#define S(n) SEC("syscall") int n(void *s)
P(rcu_ok) {
    bpf_rcu_read_lock();
    bpf_rcu_read_unlock();
    return 0;
}
P(rcu_miss) {
    bpf_rcu_read_lock();
    return 0;
}
P(rcu_miss2) {
    bpf_rcu_read_unlock();
    return 0;
}
P(rcu_nest) {
    bpf_rcu_read_lock();
    bpf_rcu_read_lock();
    bpf_rcu_read_unlock();
    bpf_rcu_read_unlock();
    return 0;
}
P(rcu_cond) {
    if (s->len)
        bpf_rcu_read_lock();
    s->mark = 1;
    if (s->len)
        bpf_rcu_read_unlock();
    return 0;
}

static __noinline int sub_unlock(void) {
    bpf_rcu_read_unlock();
    return 0;
}

static __noinline int sub_lock(void) {
    bpf_rcu_read_lock();
    return 0;
}
P(rcu_sub) {
    sub_lock();
    sub_unlock();
    return 0;
}
P(rcu_sub_leak) {
    sub_lock();
    return 0;
}
S(s_helper) {
    char b[8];
    bpf_rcu_read_lock();
    bpf_copy_from_user(b, 8, s);
    bpf_rcu_read_unlock();
    return 0;
}
S(s_kfunc) {
    char b[8];
    bpf_rcu_read_lock();
    bpf_copy_from_user_str(b, 8, s, 0);
    bpf_rcu_read_unlock();
    return 0;
}
S(s_pre_helper) {
    char b[8];
    bpf_preempt_disable();
    bpf_copy_from_user(b, 8, s);
    bpf_preempt_enable();
    return 0;
}
S(s_pre_kfunc) {
    char b[8];
    bpf_preempt_disable();
    bpf_copy_from_user_str(b, 8, s, 0);
    bpf_preempt_enable();
    return 0;
}
S(s_irq_helper) {
    char b[8];
    unsigned long f;
    bpf_local_irq_save(&f);
    bpf_copy_from_user(b, 8, s);
    bpf_local_irq_restore(&f);
    return 0;
}
S(s_irq_kfunc) {
    char b[8];
    unsigned long f;
    bpf_local_irq_save(&f);
    bpf_copy_from_user_str(b, 8, s, 0);
    bpf_local_irq_restore(&f);
    return 0;
}
S(s_ok) {
    char b[8];
    return bpf_copy_from_user_str(b, 8, s, 0);
}
__noinline int gsleep(int i) {
    char b[8];
    bpf_copy_from_user(b, 8, (void *)(long)i);
    return i;
}
__noinline int gnosleep(int i) {
    return i + 1;
}
S(g1) {
    bpf_rcu_read_lock();
    gsleep(1);
    bpf_rcu_read_unlock();
    return 0;
}
S(g2) {
    bpf_preempt_disable();
    gsleep(1);
    bpf_preempt_enable();
    return 0;
}
S(g3) {
    unsigned long f;
    bpf_local_irq_save(&f);
    gsleep(1);
    bpf_local_irq_restore(&f);
    return 0;
}
S(g4) {
    bpf_rcu_read_lock();
    gnosleep(1);
    bpf_rcu_read_unlock();
    return 0;
}
S(g5) {
    return gsleep(1);
}
P(pre_ok) {
    bpf_preempt_disable();
    bpf_preempt_enable();
    return 0;
}
P(pre_nest) {
    bpf_preempt_disable();
    bpf_preempt_disable();
    bpf_preempt_enable();
    bpf_preempt_enable();
    return 0;
}
P(pre_miss) {
    bpf_preempt_disable();
    bpf_preempt_disable();
    bpf_preempt_enable();
    return 0;
}
P(pre_miss2) {
    bpf_preempt_enable();
    return 0;
}
P(irq_ok) {
    unsigned long f;
    bpf_local_irq_save(&f);
    bpf_local_irq_restore(&f);
    return 0;
}
P(irq_nest) {
    unsigned long f, g;
    bpf_local_irq_save(&f);
    bpf_local_irq_save(&g);
    bpf_local_irq_restore(&g);
    bpf_local_irq_restore(&f);
    return 0;
}
P(irq_ooo) {
    unsigned long f, g;
    bpf_local_irq_save(&f);
    bpf_local_irq_save(&g);
    bpf_local_irq_restore(&f);
    bpf_local_irq_restore(&g);
    return 0;
}
P(irq_miss) {
    unsigned long f;
    bpf_local_irq_save(&f);
    return 0;
}
P(irq_uninit) {
    unsigned long f;
    bpf_local_irq_restore(&f);
    return 0;
}
P(irq_twice) {
    unsigned long f;
    bpf_local_irq_save(&f);
    bpf_local_irq_save(&f);
    bpf_local_irq_restore(&f);
    return 0;
}
P(irq_over) {
    unsigned long f;
    bpf_local_irq_save(&f);
    *(volatile long *)&f = 1;
    bpf_local_irq_restore(&f);
    return 0;
}
P(irq_part) {
    unsigned long f;
    bpf_local_irq_save(&f);
    *(volatile char *)&f = 1;
    bpf_local_irq_restore(&f);
    return 0;
}
P(irq_read) {
    unsigned long f;
    bpf_local_irq_save(&f);
    long x = *(volatile long *)&f;
    bpf_local_irq_restore(&f);
    return x;
}

static unsigned long gf;
P(irq_glob) {
    bpf_local_irq_save(&gf);
    bpf_local_irq_restore(&gf);
    return 0;
}

static __noinline void isave(unsigned long *f) {
    bpf_local_irq_save(f);
}

static __noinline void irest(unsigned long *f) {
    bpf_local_irq_restore(f);
}
P(irq_sub) {
    unsigned long f;
    isave(&f);
    irest(&f);
    return 0;
}
P(irq_sub_miss) {
    unsigned long f;
    isave(&f);
    return 0;
}
P(irq_cond) {
    unsigned long f;
    if (s->len) {
        bpf_local_irq_save(&f);
        s->mark = 3;
        bpf_local_irq_restore(&f);
    }
    return 0;
}
P(irq_iter) {
    unsigned long f;
    struct bpf_iter_num it;
    bpf_local_irq_save(&f);
    bpf_iter_num_new(&it, 0, 3);
    bpf_iter_num_destroy(&it);
    bpf_local_irq_restore(&f);
    return 0;
}
P(irq_tail) {
    unsigned long f;
    struct bpf_dynptr d;
    bpf_local_irq_save(&f);
    bpf_dynptr_from_skb(s, 0, &d);
    bpf_local_irq_restore(&f);
    return bpf_dynptr_size(&d);
}

#define G                                                                                                              \
    int k = 0;                                                                                                         \
    struct l1 *v = bpf_map_lookup_elem(&hm, &k);                                                                       \
    if (!v)                                                                                                            \
        return 0;
P(res_ok) {
    G if (bpf_res_spin_lock(&v->l)) return 1;
    bpf_res_spin_unlock(&v->l);
    return 0;
}
P(res_nocheck) {
    G bpf_res_spin_lock(&v->l);
    bpf_res_spin_unlock(&v->l);
    return 0;
}
P(res_leak) {
    G if (bpf_res_spin_lock(&v->l)) return 1;
    return 0;
}
P(res_aa) {
    G if (bpf_res_spin_lock(&v->l)) return 1;
    if (bpf_res_spin_lock(&v->l)) {
        bpf_res_spin_unlock(&v->l);
        return 2;
    }
    bpf_res_spin_unlock(&v->l);
    bpf_res_spin_unlock(&v->l);
    return 0;
}
P(res_two) {
    G struct l1 *w = bpf_map_lookup_elem(&m, &k);
    if (!w)
        return 0;
    if (bpf_res_spin_lock(&v->l))
        return 1;
    if (bpf_res_spin_lock(&w->l)) {
        bpf_res_spin_unlock(&v->l);
        return 1;
    }
    bpf_res_spin_unlock(&w->l);
    bpf_res_spin_unlock(&v->l);
    return 0;
}
P(res_two_ooo) {
    G struct l1 *w = bpf_map_lookup_elem(&m, &k);
    if (!w)
        return 0;
    if (bpf_res_spin_lock(&v->l))
        return 1;
    if (bpf_res_spin_lock(&w->l)) {
        bpf_res_spin_unlock(&v->l);
        return 1;
    }
    bpf_res_spin_unlock(&v->l);
    bpf_res_spin_unlock(&w->l);
    return 0;
}
P(res_other) {
    G struct l1 *w = bpf_map_lookup_elem(&m, &k);
    if (!w)
        return 0;
    if (bpf_res_spin_lock(&v->l))
        return 1;
    bpf_res_spin_unlock(&w->l);
    return 0;
}
P(res_irq) {
    unsigned long f;
    G if (bpf_res_spin_lock_irqsave(&v->l, &f)) return 1;
    bpf_res_spin_unlock_irqrestore(&v->l, &f);
    return 0;
}
P(res_irq_mix) {
    unsigned long f;
    G if (bpf_res_spin_lock_irqsave(&v->l, &f)) return 1;
    bpf_res_spin_unlock(&v->l);
    bpf_local_irq_restore(&f);
    return 0;
}
P(res_irq_mix2) {
    unsigned long f;
    G bpf_local_irq_save(&f);
    if (bpf_res_spin_lock(&v->l)) {
        bpf_local_irq_restore(&f);
        return 1;
    }
    bpf_res_spin_unlock_irqrestore(&v->l, &f);
    return 0;
}
P(res_irq_mix3) {
    unsigned long f;
    G if (bpf_res_spin_lock_irqsave(&v->l, &f)) return 1;
    bpf_local_irq_restore(&f);
    bpf_res_spin_unlock(&v->l);
    return 0;
}
P(res_off) {
    G bpf_res_spin_lock((void *)v);
    return 0;
}
P(res_stack) {
    struct bpf_res_spin_lock l;
    bpf_res_spin_lock(&l);
    return 0;
}
P(res_helper) {
    G if (bpf_res_spin_lock(&v->l)) return 1;
    bpf_ktime_get_ns();
    bpf_res_spin_unlock(&v->l);
    return 0;
}
P(res_unlock_only) {
    G bpf_res_spin_unlock(&v->l);
    return 0;
}
