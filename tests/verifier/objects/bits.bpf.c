#include "common.h"

SEC("raw_tp") int ok(void *ctx) {
    u64 d = 0xff;
    struct bpf_iter_bits it;
    int *b, n = 0;
    bpf_iter_bits_new(&it, &d, 1);
    while ((b = bpf_iter_bits_next(&it)))
        n++;
    bpf_iter_bits_destroy(&it);
    return n;
}

SEC("raw_tp") int nodestroy(void *ctx) {
    u64 d = 0xff;
    struct bpf_iter_bits it;
    bpf_iter_bits_new(&it, &d, 1);
    return 0;
}

SEC("raw_tp") int null(void *ctx) {
    struct bpf_iter_bits it;
    int *b, n = 0;
    bpf_iter_bits_new(&it, 0, 1);
    while ((b = bpf_iter_bits_next(&it)))
        n++;
    bpf_iter_bits_destroy(&it);
    return n;
}

SEC("raw_tp") int words(void *ctx) {
    u64 d[2] = {1, 2};
    struct bpf_iter_bits it;
    int *b, n = 0;
    bpf_iter_bits_new(&it, d, 2);
    while ((b = bpf_iter_bits_next(&it)))
        n += *b;
    bpf_iter_bits_destroy(&it);
    return n;
}

SEC("raw_tp") int overlap(void *ctx) {
    u64 d = 1;
    struct {
        struct bpf_iter_bits a;
    } s;
    struct bpf_iter_num n;
    bpf_iter_bits_new(&s.a, &d, 1);
    bpf_iter_num_new((void *)&s.a + 8, 0, 1);
    bpf_iter_bits_destroy(&s.a);
    return 0;
}

SEC("raw_tp") int wrongtype(void *ctx) {
    u64 d = 1;
    struct bpf_iter_bits a;
    bpf_iter_bits_new(&a, &d, 1);
    bpf_iter_num_next((void *)&a);
    bpf_iter_bits_destroy(&a);
    return 0;
}

SEC("raw_tp") int mid(void *ctx) {
    u64 d = 1;
    struct bpf_iter_bits a;
    bpf_iter_bits_new(&a, &d, 1);
    *(volatile u64 *)((void *)&a + 8) = 0;
    bpf_iter_bits_destroy(&a);
    return 0;
}

SEC("tp_btf/task_newtask") int BPF_PROG(task_noguard) {
    struct bpf_iter_task it;
    struct task_struct *p;
    bpf_iter_task_new(&it, bpf_get_current_task_btf(), 0);
    while ((p = bpf_iter_task_next(&it)))
        ;
    bpf_iter_task_destroy(&it);
    return 0;
}

SEC("tp_btf/task_newtask") int BPF_PROG(task_ok) {
    struct bpf_iter_task it;
    struct task_struct *p;
    int n = 0;
    bpf_rcu_read_lock();
    bpf_iter_task_new(&it, bpf_get_current_task_btf(), 0);
    while ((p = bpf_iter_task_next(&it)))
        n += p->pid;
    bpf_iter_task_destroy(&it);
    bpf_rcu_read_unlock();
    return n;
}

SEC("tp_btf/task_newtask") int BPF_PROG(task_null) {
    struct bpf_iter_task it;
    bpf_iter_task_new(&it, 0, 0);
    bpf_iter_task_destroy(&it);
    return 0;
}

SEC("tp_btf/task_newtask") int BPF_PROG(css_ok) {
    struct bpf_iter_css it;
    struct cgroup_subsys_state *p;
    int n = 0;
    struct cgroup *cg = bpf_cgroup_from_id(1);
    if (!cg)
        return 0;
    bpf_rcu_read_lock();
    bpf_iter_css_new(&it, &cg->self, 0);
    while ((p = bpf_iter_css_next(&it)))
        n++;
    bpf_iter_css_destroy(&it);
    bpf_rcu_read_unlock();
    bpf_cgroup_release(cg);
    return n;
}

SEC("tp_btf/task_newtask") int BPF_PROG(css_task) {
    struct bpf_iter_css_task it;
    struct cgroup *cg = bpf_cgroup_from_id(1);
    if (!cg)
        return 0;
    bpf_iter_css_task_new(&it, &cg->self, 0);
    bpf_iter_css_task_destroy(&it);
    bpf_cgroup_release(cg);
    return 0;
}

SEC("tp_btf/task_newtask") int BPF_PROG(vma) {
    struct bpf_iter_task_vma it;
    struct vm_area_struct *v;
    int n = 0;
    bpf_iter_task_vma_new(&it, bpf_get_current_task_btf(), 0);
    while ((v = bpf_iter_task_vma_next(&it)))
        n += v->vm_start;
    bpf_iter_task_vma_destroy(&it);
    return n;
}

SEC("tp_btf/task_newtask") int BPF_PROG(cache) {
    struct bpf_iter_kmem_cache it;
    bpf_iter_kmem_cache_new(&it);
    bpf_iter_kmem_cache_destroy(&it);
    return 0;
}

SEC("syscall") int task_sleep_norcu(void *ctx) {
    struct bpf_iter_task it;
    bpf_iter_task_new(&it, bpf_get_current_task_btf(), 0);
    bpf_iter_task_destroy(&it);
    return 0;
}

SEC("syscall") int task_sleep_unlock(void *ctx) {
    struct bpf_iter_task it;
    bpf_rcu_read_lock();
    bpf_iter_task_new(&it, bpf_get_current_task_btf(), 0);
    bpf_rcu_read_unlock();
    bpf_iter_task_next(&it);
    bpf_iter_task_destroy(&it);
    return 0;
}

SEC("syscall") int task_sleep_ok(void *ctx) {
    struct bpf_iter_task it;
    struct task_struct *p;
    int n = 0;
    bpf_rcu_read_lock();
    bpf_iter_task_new(&it, bpf_get_current_task_btf(), 0);
    while ((p = bpf_iter_task_next(&it)))
        n += p->pid;
    bpf_iter_task_destroy(&it);
    bpf_rcu_read_unlock();
    return n;
}

SEC("syscall") int cache_ok(void *ctx) {
    struct bpf_iter_kmem_cache it;
    struct kmem_cache *s;
    int n = 0;
    bpf_iter_kmem_cache_new(&it);
    while ((s = bpf_iter_kmem_cache_next(&it)))
        n += s->size;
    bpf_iter_kmem_cache_destroy(&it);
    return n;
}
