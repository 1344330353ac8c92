#include "common.h"

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 4096);
} rb SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_USER_RINGBUF);
    __uint(max_entries, 4096);
} urb SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u64[4]);
} arr SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4);
    __type(key, u32);
    __type(value, u64[4]);
} hash SEC(".maps");

u64 gl[8];

static __always_inline void *val(void) {
    u32 k = 0;
    return bpf_map_lookup_elem(&hash, &k);
}

SEC("tc") int a_ok(struct __sk_buff *s) {
    struct bpf_dynptr p;
    void *v = val();
    if (!v)
        return 0;
    bpf_dynptr_from_mem(v, 32, 0, &p);
    u64 x;
    bpf_dynptr_read(&x, 8, &p, 0, 0);
    return x;
}

SEC("tc") int from_glob(struct __sk_buff *s) {
    struct bpf_dynptr p;
    u64 x;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    bpf_dynptr_write(&p, 0, &s->len, 4, 0);
    return 0;
}

SEC("tc") int from_glob2(struct __sk_buff *s) {
    struct bpf_dynptr p;
    u64 x = 1;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    bpf_dynptr_write(&p, 0, &x, 8, 0);
    u64 *q = bpf_dynptr_data(&p, 8, 8);
    if (q)
        *q = 3;
    return 0;
}

SEC("tc") int data_oob(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    u64 *q = bpf_dynptr_data(&p, 8, 8);
    if (q)
        q[1] = 3;
    return 0;
}

SEC("tc") int data_var(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    u64 *q = bpf_dynptr_data(&p, 8, s->len);
    if (q)
        q[0] = 3;
    return 0;
}

SEC("tc") int mem_too_big(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 72, 0, &p);
    return 0;
}

SEC("tc") int rb_ok(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_ringbuf_reserve_dynptr(&rb, s->len, 0, &p);
    bpf_ringbuf_submit_dynptr(&p, 0);
    return 0;
}

SEC("tc") int rb_err_path(struct __sk_buff *s) {
    struct bpf_dynptr p;
    if (bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &p))
        return 0;
    bpf_ringbuf_submit_dynptr(&p, 0);
    return 0;
}

SEC("tc") int rb_wrong(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    bpf_ringbuf_submit_dynptr(&p, 0);
    return 0;
}

SEC("tc") int rb_reinit(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &p);
    bpf_dynptr_from_mem(gl, 8, 0, &p);
    return 0;
}

SEC("tc") int rb_slice_write(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &p);
    u64 *q = bpf_dynptr_slice_rdwr(&p, 0, 0, 8);
    if (q)
        *q = 1;
    bpf_ringbuf_submit_dynptr(&p, 0);
    return 0;
}

SEC("tc") int rb_slice_after(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &p);
    u64 *q = bpf_dynptr_slice_rdwr(&p, 0, 0, 8);
    bpf_ringbuf_submit_dynptr(&p, 0);
    if (q)
        *q = 1;
    return 0;
}

SEC("tc") int skb_ok(struct __sk_buff *s) {
    struct bpf_dynptr p;
    char b[20];
    bpf_dynptr_from_skb(s, 0, &p);
    struct iphdr *h = bpf_dynptr_slice(&p, 14, b, 20);
    if (!h)
        return 1;
    return h->protocol;
}

SEC("tc") int skb_wr(struct __sk_buff *s) {
    struct bpf_dynptr p;
    char b[20];
    bpf_dynptr_from_skb(s, 0, &p);
    struct iphdr *h = bpf_dynptr_slice_rdwr(&p, 14, b, 20);
    if (!h)
        return 1;
    h->ttl = 3;
    return 0;
}

SEC("tc") int skb_small(struct __sk_buff *s) {
    struct bpf_dynptr p;
    char b[10];
    bpf_dynptr_from_skb(s, 0, &p);
    struct iphdr *h = bpf_dynptr_slice(&p, 14, b, 20);
    if (!h)
        return 1;
    return h->protocol;
}

SEC("tc") int skb_inval(struct __sk_buff *s) {
    struct bpf_dynptr p;
    char b[20];
    bpf_dynptr_from_skb(s, 0, &p);
    struct iphdr *h = bpf_dynptr_slice(&p, 14, b, 20);
    if (!h)
        return 1;
    bpf_skb_pull_data(s, 40);
    return h->protocol;
}

SEC("tc") int skb_dwrite(struct __sk_buff *s) {
    struct bpf_dynptr p;
    char b[20] = {};
    bpf_dynptr_from_skb(s, 0, &p);
    struct iphdr *h = bpf_dynptr_slice(&p, 14, 0, 20);
    if (!h)
        return 1;
    bpf_dynptr_write(&p, 0, b, 4, 0);
    return h->protocol;
}

SEC("tc") int skb_pkt_inval(struct __sk_buff *s) {
    struct bpf_dynptr p;
    char b[20] = {};
    bpf_dynptr_from_skb(s, 0, &p);
    char *d = (void *)(long)s->data, *e = (void *)(long)s->data_end;
    if (d + 4 > e)
        return 0;
    bpf_dynptr_write(&p, 0, b, 4, 0);
    return *d;
}

SEC("tc") int skb_meta(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_skb_meta(s, 0, &p);
    char *m = bpf_dynptr_slice_rdwr(&p, 0, 0, 4);
    if (m)
        *m = 1;
    return 0;
}

SEC("tc") int skb_meta_inval(struct __sk_buff *s) {
    struct bpf_dynptr p;
    char b[4] = {};
    bpf_dynptr_from_skb_meta(s, 0, &p);
    char *m = bpf_dynptr_slice_rdwr(&p, 0, 0, 4);
    bpf_dynptr_write(&p, 0, b, 4, 0);
    if (m)
        *m = 1;
    return 0;
}

SEC("socket") int sk_ro(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_skb(s, 0, &p);
    char b[4] = {};
    return bpf_dynptr_write(&p, 0, b, 4, 0);
}

SEC("cgroup_skb/egress") int cg_rdwr(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_skb(s, 0, &p);
    char *m = bpf_dynptr_slice_rdwr(&p, 0, 0, 4);
    return m != 0;
}

SEC("xdp") int xdp_ok(struct xdp_md *s) {
    struct bpf_dynptr p;
    char b[20];
    bpf_dynptr_from_xdp(s, 0, &p);
    struct iphdr *h = bpf_dynptr_slice_rdwr(&p, 14, b, 20);
    if (!h)
        return 1;
    h->ttl = 3;
    return h->protocol;
}

SEC("xdp") int xdp_adj(struct xdp_md *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_xdp(s, 0, &p);
    struct iphdr *h = bpf_dynptr_slice(&p, 14, 0, 20);
    if (!h)
        return 1;
    bpf_xdp_adjust_head(s, 4);
    return h->protocol;
}

SEC("xdp") int xdp_pull(struct xdp_md *s) {
    char *d = (void *)(long)s->data, *e = (void *)(long)s->data_end;
    if (d + 4 > e)
        return 0;
    bpf_xdp_pull_data(s, 100);
    return *d;
}

SEC("xdp") int xdp_pull2(struct xdp_md *s) {
    bpf_xdp_pull_data(s, 100);
    char *d = (void *)(long)s->data, *e = (void *)(long)s->data_end;
    if (d + 4 > e)
        return 0;
    return *d;
}

SEC("xdp") int xdp_wrongctx(struct xdp_md *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_xdp((void *)&p, 0, &p);
    return 0;
}

static __noinline int subw(struct bpf_dynptr *p) {
    u64 x = 0;
    return bpf_dynptr_write(p, 0, &x, 8, 0);
}

SEC("tc") int in_sub(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    return subw(&p);
}
__noinline int globsub(const struct bpf_dynptr *p) {
    u64 x = 0;
    bpf_dynptr_read(&x, 8, (void *)p, 0, 0);
    return x;
}

SEC("tc") int in_globsub(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    return globsub(&p);
}

SEC("tc") int in_globsub_uninit(struct __sk_buff *s) {
    struct bpf_dynptr p;
    return globsub(&p);
}
__noinline int globadj(struct bpf_dynptr *p) {
    return bpf_dynptr_adjust(p, 0, 1);
}

SEC("tc") int in_globadj(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    return globadj(&p);
}

static __noinline int ucb(struct bpf_dynptr *p, void *c) {
    u64 *x = bpf_dynptr_data(p, 0, 8);
    if (x)
        *(u64 *)c = *x;
    return 0;
}

SEC("tc") int urb_ok(struct __sk_buff *s) {
    u64 c = 0;
    bpf_user_ringbuf_drain(&urb, ucb, &c, 0);
    return c;
}

static __noinline int ucb2(struct bpf_dynptr *p, void *c) {
    bpf_dynptr_from_mem(gl, 8, 0, p);
    return 0;
}

SEC("tc") int urb_reinit(struct __sk_buff *s) {
    u64 c = 0;
    bpf_user_ringbuf_drain(&urb, ucb2, &c, 0);
    return c;
}

static __noinline int ucb3(struct bpf_dynptr *p, void *c) {
    return bpf_dynptr_adjust(p, 0, 1);
}

SEC("tc") int urb_adjust(struct __sk_buff *s) {
    u64 c = 0;
    bpf_user_ringbuf_drain(&urb, ucb3, &c, 0);
    return c;
}

static __noinline int ucb4(struct bpf_dynptr *p, void *c) {
    bpf_ringbuf_discard_dynptr(p, 0);
    return 0;
}

SEC("tc") int urb_disc(struct __sk_buff *s) {
    u64 c = 0;
    bpf_user_ringbuf_drain(&urb, ucb4, &c, 0);
    return c;
}

static __noinline int ucb5(struct bpf_dynptr *p, void *c) {
    *(volatile long *)p = 0;
    return 0;
}

SEC("tc") int urb_write(struct __sk_buff *s) {
    u64 c = 0;
    bpf_user_ringbuf_drain(&urb, ucb5, &c, 0);
    return c;
}

static __noinline int ucb6(struct bpf_dynptr *p, void *c) {
    return *(volatile long *)((void *)p + 8);
}

SEC("tc") int urb_off(struct __sk_buff *s) {
    u64 c = 0;
    bpf_user_ringbuf_drain(&urb, ucb6, &c, 0);
    return c;
}

static __noinline int ucb7(struct bpf_dynptr *p, void *c) {
    return 2;
}

SEC("tc") int urb_ret(struct __sk_buff *s) {
    u64 c = 0;
    bpf_user_ringbuf_drain(&urb, ucb7, &c, 0);
    return c;
}

static __noinline int ucb8(struct bpf_dynptr *p, void *c) {
    struct bpf_dynptr q;
    bpf_dynptr_clone(p, &q);
    u64 *x = bpf_dynptr_data(&q, 0, 8);
    return x ? 1 : 0;
}

SEC("tc") int urb_clone(struct __sk_buff *s) {
    u64 c = 0;
    bpf_user_ringbuf_drain(&urb, ucb8, &c, 0);
    return c;
}

SEC("tc") int clone_over(struct __sk_buff *s) {
    struct bpf_dynptr p, q;
    bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &p);
    bpf_dynptr_clone(&p, &q);
    bpf_ringbuf_discard_dynptr(&q, 0);
    bpf_ringbuf_discard_dynptr(&p, 0);
    return 0;
}

SEC("tc") int clone_self(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    bpf_dynptr_clone(&p, &p);
    u32 z = bpf_dynptr_size(&p);
    return z;
}

SEC("tc") int copy_ok(struct __sk_buff *s) {
    struct bpf_dynptr p, q;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    bpf_dynptr_from_skb(s, 0, &q);
    return bpf_dynptr_copy(&p, 0, &q, 0, 8);
}

SEC("tc") int memset_ok(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    return bpf_dynptr_memset(&p, 0, 8, 1);
}

SEC("tc") int loop_ok(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    u64 x, t = 0;
    for (int i = 0; i < 8; i++) {
        bpf_dynptr_read(&x, 8, &p, i * 8, 0);
        t += x;
    }
    return t;
}

SEC("tc") int partial(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    ((volatile char *)&p)[3] = 1;
    return bpf_dynptr_size(&p);
}

SEC("tc") int varoff(struct __sk_buff *s) {
    struct bpf_dynptr p[2];
    bpf_dynptr_from_mem(gl, 64, 0, &p[0]);
    bpf_dynptr_from_mem(gl, 64, 0, &p[1]);
    u32 i = s->len & 1;
    asm volatile("" : "+r"(i));
    return bpf_dynptr_size(&p[i]);
}

SEC("tc") int varwrite(struct __sk_buff *s) {
    struct bpf_dynptr p;
    char b[8];
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    u32 i = s->len & 15;
    asm volatile("" : "+r"(i));
    ((volatile char *)&p)[i] = 1;
    return bpf_dynptr_size(&p);
}

SEC("tc") int merge(struct __sk_buff *s) {
    struct bpf_dynptr p;
    if (s->len)
        bpf_dynptr_from_mem(gl, 64, 0, &p);
    else
        bpf_dynptr_from_skb(s, 0, &p);
    return bpf_dynptr_size(&p);
}

SEC("tc") int merge2(struct __sk_buff *s) {
    struct bpf_dynptr p;
    if (s->len)
        bpf_dynptr_from_mem(gl, 64, 0, &p);
    else
        bpf_ringbuf_reserve_dynptr(&rb, 8, 0, &p);
    if (!s->len)
        bpf_ringbuf_discard_dynptr(&p, 0);
    return 0;
}

SEC("tc") int lock_it(struct __sk_buff *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    return bpf_dynptr_read((void *)&p, 16, &p, 0, 0);
}

SEC("xdp") int probe(struct xdp_md *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    return bpf_probe_read_kernel_dynptr(&p, 0, 8, (void *)s);
}

SEC("xdp") int user(struct xdp_md *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    return bpf_probe_read_user_str_dynptr(&p, 0, 8, (void *)s);
}

SEC("syscall") int cuser(void *s) {
    struct bpf_dynptr p;
    bpf_dynptr_from_mem(gl, 64, 0, &p);
    return bpf_copy_from_user_dynptr(&p, 0, 8, s);
}
