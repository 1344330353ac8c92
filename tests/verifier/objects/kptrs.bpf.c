#include "common.h"
struct foo {
    int x;
    struct bpf_refcount r;
};
struct plain {
    int a, b;
};
struct v {
    struct task_struct __kptr *task;
    struct task_struct __attribute__((btf_type_tag("kptr_untrusted"))) * unref;
    struct bpf_cpumask __kptr *mask;
    struct foo __kptr *own;
    struct plain __kptr *pl;
    struct cgroup __kptr *cg;
    struct plain __percpu_kptr *pc;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, int);
    __type(value, struct v);
    __uint(max_entries, 1);
} m SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, struct v);
    __uint(max_entries, 1);
} h SEC(".maps");

static __always_inline struct v *get(void) {
    int k = 0;
    return bpf_map_lookup_elem(&h, &k);
}

#define P(n) SEC("tp_btf/task_newtask") int BPF_PROG(n, struct task_struct *task, u64 fl)
P(ins) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = bpf_task_acquire(task), *o;
    if (!t)
        return 0;
    o = bpf_kptr_xchg(&v->task, t);
    if (o)
        bpf_task_release(o);
    return 0;
}
P(ins_leak) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = bpf_task_acquire(task);
    if (!t)
        return 0;
    bpf_kptr_xchg(&v->task, t);
    return 0;
}
P(ins_unacq) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *o = bpf_kptr_xchg(&v->task, task);
    if (o)
        bpf_task_release(o);
    return 0;
}
P(ins_use) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = bpf_task_acquire(task), *o;
    if (!t)
        return 0;
    o = bpf_kptr_xchg(&v->task, t);
    if (o)
        bpf_task_release(o);
    return t->pid;
}
P(wrong) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = bpf_task_acquire(task);
    if (!t)
        return 0;
    void *o = bpf_kptr_xchg(&v->cg, (void *)t);
    if (o)
        bpf_cgroup_release(o);
    return 0;
}
P(wrong_field) {
    struct v *v = get();
    if (!v)
        return 0;
    bpf_kptr_xchg((void *)v + 4, 0);
    return 0;
}
P(unref_xchg) {
    struct v *v = get();
    if (!v)
        return 0;
    bpf_kptr_xchg(&v->unref, 0);
    return 0;
}
P(ld) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = v->task;
    if (!t)
        return 0;
    return t->pid;
}
P(ld_nonull) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = v->task;
    return t->pid;
}
P(ld_acq) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = v->task;
    if (!t)
        return 0;
    t = bpf_task_acquire(t);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(ld_unref) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = v->unref;
    if (!t)
        return 0;
    return t->pid;
}
P(ld_unref_acq) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = v->unref;
    if (!t)
        return 0;
    t = bpf_task_acquire(t);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(st) {
    struct v *v = get();
    if (!v)
        return 0;
    v->unref = task;
    return 0;
}
P(st_null) {
    struct v *v = get();
    if (!v)
        return 0;
    v->unref = 0;
    return 0;
}
P(st_num) {
    struct v *v = get();
    if (!v)
        return 0;
    *(volatile u64 *)&v->unref = 5;
    return 0;
}
P(st_ref) {
    struct v *v = get();
    if (!v)
        return 0;
    v->task = task;
    return 0;
}
P(st_wrong) {
    struct v *v = get();
    if (!v)
        return 0;
    *(void **)&v->unref = bpf_get_current_task_btf()->cred;
    return 0;
}
P(st_off) {
    struct v *v = get();
    if (!v)
        return 0;
    *(void **)&v->unref = (void *)task + 8;
    return 0;
}
P(st_narrow) {
    struct v *v = get();
    if (!v)
        return 0;
    *(volatile u32 *)&v->unref = 0;
    return 0;
}
P(st_mis) {
    struct v *v = get();
    if (!v)
        return 0;
    *(volatile u32 *)((void *)&v->unref + 4) = 0;
    return 0;
}
P(helper) {
    struct v *v = get();
    if (!v)
        return 0;
    return bpf_probe_read_kernel(v, 8, task);
}
P(helper_ok) {
    struct v *v = get();
    int k = 0;
    if (!v)
        return 0;
    return bpf_map_update_elem(&h, &k, v, 0);
}
P(atomic) {
    struct v *v = get();
    if (!v)
        return 0;
    __sync_fetch_and_add((u64 *)&v->unref, 1);
    return 0;
}
P(own) {
    struct v *v = get();
    if (!v)
        return 0;
    struct foo *f = bpf_obj_new(typeof(*f)), *o;
    if (!f)
        return 0;
    o = bpf_kptr_xchg(&v->own, f);
    if (o)
        bpf_obj_drop(o);
    return 0;
}
P(own_wrong) {
    struct v *v = get();
    if (!v)
        return 0;
    struct foo *f = bpf_obj_new(typeof(*f)), *o;
    if (!f)
        return 0;
    o = bpf_kptr_xchg(&v->pl, (void *)f);
    if (o)
        bpf_obj_drop(o);
    return 0;
}
P(own_ld) {
    struct v *v = get();
    if (!v)
        return 0;
    struct foo *f = v->own;
    if (f)
        return f->x;
    return 0;
}
P(own_ld_w) {
    struct v *v = get();
    if (!v)
        return 0;
    struct foo *f = v->own;
    if (f)
        f->x = 1;
    return 0;
}
P(own_ld_acq) {
    struct v *v = get();
    if (!v)
        return 0;
    struct foo *f = v->own;
    if (!f)
        return 0;
    f = bpf_refcount_acquire(f);
    if (f)
        bpf_obj_drop(f);
    return 0;
}
P(mask) {
    struct v *v = get();
    if (!v)
        return 0;
    struct bpf_cpumask *c = bpf_cpumask_create(), *o;
    if (!c)
        return 0;
    o = bpf_kptr_xchg(&v->mask, c);
    if (o)
        bpf_cpumask_release(o);
    bpf_rcu_read_lock();
    c = v->mask;
    if (c)
        bpf_cpumask_test_cpu(1, (void *)c);
    bpf_rcu_read_unlock();
    return 0;
}
P(percpu) {
    struct v *v = get();
    if (!v)
        return 0;
    struct plain __percpu_kptr *f = bpf_percpu_obj_new(struct plain), *o;
    if (!f)
        return 0;
    o = bpf_kptr_xchg(&v->pc, f);
    if (o)
        bpf_percpu_obj_drop(o);
    return 0;
}
P(percpu_use) {
    struct v *v = get();
    if (!v)
        return 0;
    struct plain __percpu_kptr *p = v->pc;
    if (!p)
        return 0;
    struct plain *q = bpf_this_cpu_ptr(p);
    q->a = 1;
    return q->b;
}
P(percpu_direct) {
    struct v *v = get();
    if (!v)
        return 0;
    struct plain *p = (void *)v->pc;
    if (!p)
        return 0;
    return p->a;
}
P(percpu_ref) {
    struct foo __percpu_kptr *f = bpf_percpu_obj_new(struct foo);
    if (f)
        bpf_percpu_obj_drop(f);
    return 0;
}
struct big {
    char b[600];
};
struct wp {
    void *p;
};
P(percpu_big) {
    struct big __percpu_kptr *f = bpf_percpu_obj_new(struct big);
    if (f)
        bpf_percpu_obj_drop(f);
    return 0;
}
P(percpu_ptr) {
    struct wp __percpu_kptr *f = bpf_percpu_obj_new(struct wp);
    if (f)
        bpf_percpu_obj_drop(f);
    return 0;
}
P(percpu_drop_wrong) {
    struct plain __percpu_kptr *f = bpf_percpu_obj_new(struct plain);
    if (f)
        bpf_obj_drop_impl((void *)f, 0);
    return 0;
}
P(obj_drop_percpu) {
    struct plain *f = bpf_obj_new(struct plain);
    if (f)
        bpf_percpu_obj_drop_impl((void *)f, 0);
    return 0;
}
P(percpu_array) {
    int k = 0;
    struct v *v = bpf_map_lookup_elem(&m, &k);
    if (!v)
        return 0;
    struct task_struct *o = bpf_kptr_xchg(&v->task, 0);
    if (o)
        bpf_task_release(o);
    return 0;
}
P(var) {
    struct v *v = get();
    if (!v)
        return 0;
    u64 i = fl & 8;
    asm volatile("" : "+r"(i));
    return *(volatile u64 *)((void *)v + i) != 0;
}
P(xchg_var) {
    struct v *v = get();
    if (!v)
        return 0;
    u64 i = fl & 8;
    asm volatile("" : "+r"(i));
    bpf_kptr_xchg((void *)v + i, 0);
    return 0;
}

SEC("syscall") int sl_ld(void *c) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *t = v->task;
    if (!t)
        return 0;
    return t->pid;
}

SEC("syscall") int sl_ld_rcu(void *c) {
    int r = 0;
    struct v *v = get();
    if (!v)
        return 0;
    bpf_rcu_read_lock();
    struct task_struct *t = v->task;
    if (t)
        r = t->pid;
    bpf_rcu_read_unlock();
    return r;
}

SEC("syscall") int sl_ld_after(void *c) {
    int r = 0;
    struct v *v = get();
    if (!v)
        return 0;
    bpf_rcu_read_lock();
    struct task_struct *t = v->task;
    bpf_rcu_read_unlock();
    if (t)
        t = bpf_task_acquire(t);
    if (t)
        bpf_task_release(t);
    return r;
}

SEC("xdp") int xdp_xchg(void *c) {
    struct v *v = get();
    if (!v)
        return 0;
    struct task_struct *o = bpf_kptr_xchg(&v->task, 0);
    if (o)
        bpf_task_release(o);
    return 0;
}
