#include "common.h"
int gi;
char rostr[] = "abc";
const char cstr[] = "hello";
const char nonul[3] = {'a', 'b', 'c'};
struct bpf_cpumask *gmaskp;
struct mv {
    struct bpf_cpumask __kptr *m;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, struct mv);
    __uint(max_entries, 1);
} hm SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, int);
    __type(value, int);
    __uint(max_entries, 1);
} plain SEC(".maps");

#define P(n) SEC("tp_btf/task_newtask") int BPF_PROG(n, struct task_struct *task, u64 fl)

#define X(n) SEC("xdp") int n(struct xdp_md *c)

#define T(n) SEC("tc") int n(struct __sk_buff *c)
P(t_ok) {
    struct task_struct *t = bpf_task_acquire(task);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(t_nonull) {
    struct task_struct *t = bpf_task_acquire(task);
    bpf_task_release(t);
    return 0;
}
P(t_nested) {
    struct task_struct *t = bpf_task_acquire(task->group_leader);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(t_parent) {
    struct task_struct *t = bpf_task_acquire(task->real_parent);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(t_lastwakee) {
    struct task_struct *t = bpf_task_acquire(task->last_wakee);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(t_cast) {
    struct task_struct *t = bpf_task_acquire((void *)task->cred);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(t_off) {
    struct task_struct *t = bpf_task_acquire((void *)task + 8);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(t_num) {
    struct task_struct *t = bpf_task_acquire((void *)fl);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(t_stack) {
    long x;
    struct task_struct *t = bpf_task_acquire((void *)&x);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(t_rel_trusted) {
    bpf_task_release(task);
    return 0;
}
P(t_rel_off) {
    struct task_struct *t = bpf_task_acquire(task);
    if (t)
        bpf_task_release((void *)t + 8);
    return 0;
}
P(t_rel_twice) {
    struct task_struct *t = bpf_task_acquire(task);
    if (t) {
        bpf_task_release(t);
        bpf_task_release(t);
    }
    return 0;
}
P(t_use_after) {
    struct task_struct *t = bpf_task_acquire(task);
    if (!t)
        return 0;
    bpf_task_release(t);
    return t->pid;
}
P(t_frompid) {
    struct task_struct *t = bpf_task_from_pid(fl);
    if (!t)
        return 0;
    int p = t->pid;
    bpf_task_release(t);
    return p;
}
P(t_vpid_leak) {
    struct task_struct *t = bpf_task_from_vpid(fl);
    return t != 0;
}
P(t_current) {
    struct task_struct *t = bpf_task_acquire(bpf_get_current_task_btf());
    if (t)
        bpf_task_release(t);
    return 0;
}
P(t_cg) {
    struct cgroup *g = bpf_task_get_cgroup1(task, 1);
    if (g)
        bpf_cgroup_release(g);
    return 0;
}
P(t_under) {
    struct cgroup *g = bpf_cgroup_from_id(1);
    long r;
    if (!g)
        return 0;
    r = bpf_task_under_cgroup(task, g);
    bpf_cgroup_release(g);
    return r;
}
P(cg_anc) {
    struct cgroup *g = bpf_cgroup_from_id(1), *a;
    if (!g)
        return 0;
    a = bpf_cgroup_ancestor(g, 1);
    bpf_cgroup_release(g);
    if (a)
        bpf_cgroup_release(a);
    return 0;
}
P(cg_acq_null) {
    struct cgroup *g = bpf_cgroup_from_id(1);
    g = bpf_cgroup_acquire(g);
    if (g)
        bpf_cgroup_release(g);
    return 0;
}
P(cg_wrong) {
    struct cgroup *g = bpf_cgroup_from_id(1);
    if (g)
        bpf_task_release((void *)g);
    return 0;
}
P(cg_read) {
    struct cgroup *g = bpf_cgroup_from_id(1);
    if (!g)
        return 0;
    int l = g->level;
    bpf_cgroup_release(g);
    return l;
}
P(m_ok) {
    struct bpf_cpumask *m = bpf_cpumask_create();
    if (!m)
        return 0;
    bpf_cpumask_set_cpu(1, m);
    int r = bpf_cpumask_test_cpu(1, (void *)m);
    bpf_cpumask_release(m);
    return r;
}
P(m_taskmask) {
    return bpf_cpumask_test_cpu(1, task->cpus_ptr);
}
P(m_taskmask2) {
    return bpf_cpumask_test_cpu(1, &task->cpus_mask);
}
P(m_set_task) {
    bpf_cpumask_set_cpu(1, (void *)task->cpus_ptr);
    return 0;
}
P(m_and) {
    struct bpf_cpumask *a = bpf_cpumask_create(), *b;
    if (!a)
        return 0;
    b = bpf_cpumask_create();
    if (!b) {
        bpf_cpumask_release(a);
        return 0;
    }
    bpf_cpumask_and(a, (void *)a, (void *)b);
    bpf_cpumask_copy(b, (void *)a);
    bpf_cpumask_release(a);
    bpf_cpumask_release(b);
    return 0;
}
P(m_pop) {
    long d[2] = {1, 2};
    struct bpf_cpumask *a = bpf_cpumask_create();
    if (!a)
        return 0;
    int r = bpf_cpumask_populate((void *)a, d, 16);
    bpf_cpumask_release(a);
    return r;
}
P(m_pop_bad) {
    long d[2] = {1, 2};
    struct bpf_cpumask *a = bpf_cpumask_create();
    if (!a)
        return 0;
    int r = bpf_cpumask_populate((void *)a, d, 24);
    bpf_cpumask_release(a);
    return r;
}
P(m_null) {
    bpf_cpumask_empty(0);
    return 0;
}
P(m_read) {
    struct bpf_cpumask *a = bpf_cpumask_create();
    if (!a)
        return 0;
    int r = a->cpumask.bits[0];
    bpf_cpumask_release(a);
    return r;
}
P(m_write) {
    struct bpf_cpumask *a = bpf_cpumask_create();
    if (!a)
        return 0;
    a->cpumask.bits[0] = 1;
    bpf_cpumask_release(a);
    return 0;
}
P(str_ok) {
    return bpf_strcmp((char *)cstr, (char *)cstr) + bpf_strlen((char *)cstr);
}
P(str_stack) {
    char b[4] = "abc";
    return bpf_strlen(b);
}
P(str_num) {
    return bpf_strchr((void *)fl, 'a');
}
P(str_task) {
    return bpf_strnlen(task->comm, 16);
}
P(map_sum) {
    return bpf_map_sum_elem_count((void *)&plain);
}
P(map_sum_num) {
    return bpf_map_sum_elem_count((void *)fl);
}
P(map_sum_val) {
    int k = 0;
    void *v = bpf_map_lookup_elem(&plain, &k);
    if (!v)
        return 0;
    return bpf_map_sum_elem_count(v);
}
P(stream) {
    u64 a[1] = {1};
    return bpf_stream_vprintk_impl(1, cstr, a, 8, 0);
}
P(stream_bad) {
    u64 a[1] = {1};
    return bpf_stream_vprintk_impl(1, rostr, a, 8, 0);
}
P(sig) {
    return bpf_send_signal_task(task, 9, 1, 0);
}
P(exe) {
    return bpf_get_task_exe_file(task) != 0;
}
P(cast_ro) {
    struct task_struct *t = bpf_rdonly_cast((void *)fl, bpf_core_type_id_kernel(struct task_struct));
    return t->pid;
}
P(cast_ro_w) {
    struct task_struct *t = bpf_rdonly_cast((void *)fl, bpf_core_type_id_kernel(struct task_struct));
    t->pid = 1;
    return 0;
}
P(cast_ro_acq) {
    struct task_struct *t = bpf_rdonly_cast((void *)fl, bpf_core_type_id_kernel(struct task_struct));
    t = bpf_task_acquire(t);
    if (t)
        bpf_task_release(t);
    return 0;
}
P(cast_void) {
    int *t = bpf_rdonly_cast((void *)fl, 0);
    return *t;
}
P(cast_void_w) {
    int *t = bpf_rdonly_cast((void *)fl, 0);
    *t = 1;
    return 0;
}
P(cast_int) {
    int *t = bpf_rdonly_cast((void *)fl, 1);
    return *t;
}
P(cast_var) {
    int *t = bpf_rdonly_cast((void *)fl, fl);
    return *t;
}
P(cast_huge) {
    int *t = bpf_rdonly_cast((void *)fl, 9999999);
    return *t;
}
X(kctx) {
    struct xdp_buff *x = bpf_cast_to_kern_ctx(c);
    return x->rxq->queue_index;
}
X(kctx_w) {
    struct xdp_buff *x = bpf_cast_to_kern_ctx(c);
    x->data = 0;
    return 0;
}
X(kctx_num) {
    struct xdp_buff *x = bpf_cast_to_kern_ctx((void *)8);
    return x->frame_sz;
}
T(kctx_skb) {
    struct sk_buff *x = bpf_cast_to_kern_ctx(c);
    return x->len + x->dev->ifindex;
}
T(kctx_sk) {
    struct sk_buff *x = bpf_cast_to_kern_ctx(c);
    struct sock *s = x->sk;
    if (!s)
        return 0;
    return s->__sk_common.skc_family;
}

SEC("perf_event") int kctx_pe(struct bpf_perf_event_data *c) {
    struct bpf_perf_event_data_kern *x = bpf_cast_to_kern_ctx(c);
    return x->event != 0;
}
T(kmem) {
    struct kmem_cache *k = bpf_get_kmem_cache(5);
    if (!k)
        return 0;
    return k->size;
}
T(ct) {
    struct bpf_sock_tuple t = {};
    struct bpf_ct_opts o = {.netns_id = -1, .l4proto = 6};
    struct nf_conn *n = bpf_skb_ct_lookup(c, &t, sizeof(t.ipv4), &o, 12);
    if (!n)
        return 1;
    int m = n->mark;
    bpf_ct_release(n);
    return m;
}
T(ct_leak) {
    struct bpf_sock_tuple t = {};
    struct bpf_ct_opts o = {};
    struct nf_conn *n = bpf_skb_ct_lookup(c, &t, sizeof(t.ipv4), &o, 12);
    return n != 0;
}
T(ct_size) {
    struct bpf_sock_tuple t = {};
    struct bpf_ct_opts o = {};
    struct nf_conn *n = bpf_skb_ct_lookup(c, &t, sizeof(t) + 8, &o, 12);
    if (n)
        bpf_ct_release(n);
    return 0;
}
T(ct_alloc) {
    struct bpf_sock_tuple t = {};
    struct bpf_ct_opts o = {};
    struct nf_conn___init *n = bpf_skb_ct_alloc(c, &t, sizeof(t.ipv4), &o, 12);
    if (!n)
        return 1;
    bpf_ct_set_timeout(n, 10);
    struct nf_conn *q = bpf_ct_insert_entry(n);
    if (q)
        bpf_ct_release(q);
    return 0;
}
T(ct_alloc_rel) {
    struct bpf_sock_tuple t = {};
    struct bpf_ct_opts o = {};
    struct nf_conn___init *n = bpf_skb_ct_alloc(c, &t, sizeof(t.ipv4), &o, 12);
    if (!n)
        return 1;
    bpf_ct_release((void *)n);
    return 0;
}
T(ct_status) {
    struct bpf_sock_tuple t = {};
    struct bpf_ct_opts o = {};
    struct nf_conn *n = bpf_skb_ct_lookup(c, &t, sizeof(t.ipv4), &o, 12);
    if (!n)
        return 1;
    bpf_ct_set_timeout((void *)n, 10);
    bpf_ct_release(n);
    return 0;
}
X(xct) {
    struct bpf_sock_tuple t = {};
    struct bpf_ct_opts o = {};
    struct nf_conn *n = bpf_xdp_ct_lookup(c, &t, sizeof(t.ipv4), &o, 12);
    if (n)
        bpf_ct_release(n);
    return 0;
}
X(notallowed) {
    return bpf_cpumask_first(0);
}
P(key) {
    struct bpf_key *k = bpf_lookup_system_key(0);
    if (k)
        bpf_key_put(k);
    return 0;
}
P(key_sleep) {
    struct bpf_key *k = bpf_lookup_user_key(1, 0);
    if (k)
        bpf_key_put(k);
    return 0;
}

SEC("syscall") int key_ok(void *c) {
    struct bpf_key *k = bpf_lookup_user_key(1, 0);
    if (k)
        bpf_key_put(k);
    return 0;
}

SEC("syscall") int crypto(void *c) {
    struct bpf_crypto_params p = {};
    int e;
    struct bpf_crypto_ctx *x = bpf_crypto_ctx_create(&p, sizeof(p), &e);
    if (x)
        bpf_crypto_ctx_release(x);
    return 0;
}

SEC("syscall") int crypto_bad(void *c) {
    struct bpf_crypto_params p = {};
    int e;
    struct bpf_crypto_ctx *x = bpf_crypto_ctx_create(&p, sizeof(p) + 8, &e);
    if (x)
        bpf_crypto_ctx_release(x);
    return 0;
}

SEC("syscall") int s_pid(void *c) {
    struct task_struct *t = bpf_task_from_pid(1);
    if (!t)
        return 0;
    int p = t->real_parent->pid;
    bpf_task_release(t);
    return p;
}

SEC("syscall") int s_pid_rcu(void *c) {
    struct task_struct *t = bpf_task_from_pid(1);
    if (!t)
        return 0;
    bpf_rcu_read_lock();
    int p = t->real_parent->pid;
    struct task_struct *q = bpf_task_acquire(t->real_parent);
    bpf_rcu_read_unlock();
    if (q)
        bpf_task_release(q);
    bpf_task_release(t);
    return p;
}

SEC("syscall") int s_parent_norcu(void *c) {
    struct task_struct *t = bpf_task_from_pid(1);
    if (!t)
        return 0;
    struct task_struct *q = bpf_task_acquire(t->real_parent);
    if (q)
        bpf_task_release(q);
    bpf_task_release(t);
    return 0;
}

SEC("syscall") int s_after_unlock(void *c) {
    struct task_struct *t = bpf_get_current_task_btf(), *q;
    bpf_rcu_read_lock();
    q = t->real_parent;
    bpf_rcu_read_unlock();
    return q->pid;
}

SEC("syscall") int s_after_unlock2(void *c) {
    struct task_struct *t = bpf_get_current_task_btf(), *q;
    bpf_rcu_read_lock();
    q = t->real_parent;
    bpf_rcu_read_unlock();
    q = bpf_task_acquire(q);
    if (q)
        bpf_task_release(q);
    return 0;
}
