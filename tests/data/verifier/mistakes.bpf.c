// Common mistakes, a program each; tests/unit/ebpfsim/verifier/test_explain.py says what is said of them.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
struct val { struct bpf_spin_lock lock; __u64 n; __u32 arr[16]; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, __u64); } h SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, __u32); __type(value, struct val); } lk SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 8); __type(key, __u32); __type(value, __u32[16]); } a SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } rb SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4); __uint(key_size,4); __uint(value_size,4);} pa SEC(".maps");
char _license[] SEC("license") = "GPL";
#define X SEC("xdp") int
X null_check(struct xdp_md *ctx) {
	__u32 k = 0;
	__u64 *v = bpf_map_lookup_elem(&h, &k);
	*v += 1;
	return 2;
}
X pkt_bounds(struct xdp_md *ctx) {
	void *d = (void *)(long)ctx->data;
	struct ethhdr *e = d;
	return e->h_proto ? 2 : 1;
}
X pkt_wrong(struct xdp_md *ctx) {
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *e = d;
	if (d + sizeof(*e) > end) return 1;
	struct iphdr *ip = d + sizeof(*e);
	return ip->protocol == 6;
}
X loop_unbounded(struct xdp_md *ctx) {
	volatile __u32 i;
	__u32 n = bpf_get_prandom_u32();
	for (i = 0; ; i++) { if (i == 0xffffffff) break; } return n;
}
X stack_big(struct xdp_md *ctx) {
	volatile char b[600];
	for (int i = 0; i < 600; i++) b[i] = i;
	return b[bpf_get_prandom_u32() & 511];
}
X uninit(struct xdp_md *ctx) {
	__u32 k;
	__u64 v;
	bpf_map_update_elem(&h, &k, &v, 0);
	return 2;
}
X no_unlock(struct xdp_md *ctx) {
	__u32 k = 0;
	struct val *v = bpf_map_lookup_elem(&lk, &k);
	if (!v) return 1;
	bpf_spin_lock(&v->lock);
	v->n++;
	return 2;
}
X ring_leak(struct xdp_md *ctx) {
	__u64 *r = bpf_ringbuf_reserve(&rb, 8, 0);
	if (!r) return 1;
	*r = 5;
	if (ctx->ingress_ifindex == 3) return 1;
	bpf_ringbuf_submit(r, 0);
	return 2;
}
X ring_twice(struct xdp_md *ctx) {
	__u64 *r = bpf_ringbuf_reserve(&rb, 8, 0);
	if (!r) return 1;
	bpf_ringbuf_submit(r, 0);
	*r = 3;
	return 2;
}
X wrong_helper(struct xdp_md *ctx) {
	char b[16];
	return bpf_get_current_comm(b, 16) ? bpf_skb_pull_data((void *)ctx, 3) : 2;
}
X arr_idx(struct xdp_md *ctx) {
	__u32 k = 0;
	__u32 *v = bpf_map_lookup_elem(&a, &k);
	if (!v) return 1;
	return v[ctx->rx_queue_index];
}
X arr_idx_signed(struct xdp_md *ctx) {
	__u32 k = 0;
	__u32 *v = bpf_map_lookup_elem(&a, &k);
	if (!v) return 1;
	int i = ctx->rx_queue_index;
	if (i > 15) return 1;
	return v[i];
}
X oob_const(struct xdp_md *ctx) {
	__u32 k = 0;
	__u32 *v = bpf_map_lookup_elem(&a, &k);
	if (!v) return 1;
	return v[16];
}
X after_call(struct xdp_md *ctx) {
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *e = d;
	if (d + sizeof(*e) > end) return 1;
	bpf_xdp_adjust_head(ctx, -4);
	return e->h_proto == 8;
}
X ctx_write(struct xdp_md *ctx) {
	ctx->data = 5;
	return 2;
}
X ctx_off(struct xdp_md *ctx) {
	return ((volatile __u32 *)ctx)[20];
}
X ctx_var(struct xdp_md *ctx) {
	__u32 i = bpf_get_prandom_u32() & 4;
	return *(volatile __u32 *)((void *)ctx + i);
}
X scalar_deref(struct xdp_md *ctx) {
	__u64 p = bpf_get_prandom_u32();
	return *(volatile int *)p;
}
X ptr_store_fail(struct xdp_md *ctx) {
	__u32 k = 0;
	char key[2] = {1};
	__u64 v = 1;
	bpf_map_update_elem((void *)&h, key, &v, 0);
	return 2;
}
X tail_ref(struct xdp_md *ctx) {
	__u64 *r = bpf_ringbuf_reserve(&rb, 8, 0);
	if (!r) return 1;
	bpf_tail_call(ctx, &pa, 0);
	bpf_ringbuf_discard(r, 0);
	return 2;
}
X lock_call(struct xdp_md *ctx) {
	__u32 k = 0;
	struct val *v = bpf_map_lookup_elem(&lk, &k);
	if (!v) return 1;
	bpf_spin_lock(&v->lock);
	v->n = bpf_ktime_get_ns();
	bpf_spin_unlock(&v->lock);
	return 2;
}
static __attribute__((noinline)) int deep2(char *p) {
	volatile char b[300];
	for (int i = 0; i < 300; i++) b[i] = i;
	return b[p[0] & 255];
}
static __attribute__((noinline)) int deep1(int x) {
	volatile char b[300];
	for (int i = 0; i < 300; i++) b[i] = x;
	char c = b[x & 255];
	return deep2(&c);
}
X deep(struct xdp_md *ctx) {
	return deep1(ctx->ingress_ifindex);
}
X var_len(struct xdp_md *ctx) {
	char b[32];
	__u32 len = ctx->rx_queue_index;
	bpf_probe_read_kernel(b, len, (void *)8);
	return 2;
}
X fp_leak(struct xdp_md *ctx) {
	__u32 k = 1;
	__u64 *v = bpf_map_lookup_elem(&h, &k);
	if (v) *v = (__u64)(long)v;
	return 2;
}
X noexit_div(struct xdp_md *ctx) {
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 *p = d;
	__u32 off = ctx->rx_queue_index;
	if (p + off + 1 > (__u8 *)end) return 1;
	return p[off];
}
X pkt_len(struct xdp_md *ctx) {
	void *d = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = d;
	if (d + 20 > end) return 1;
	__u8 *q = d + ip->ihl * 4;
	return q[0];
}
SEC("tc") int tc_ok(struct __sk_buff *s) {
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk = bpf_sk_lookup_tcp(s, &t, sizeof(t.ipv4), -1, 0);
	if (sk) return sk->family;
	return 0;
}
SEC("tc") int tc_null(struct __sk_buff *s) {
	struct bpf_sock *sk = s->sk;
	return sk->family;
}
SEC("cgroup_skb/egress") int cg_ret(struct __sk_buff *s) {
	return 7;
}
SEC("cgroup_skb/egress") int cg_write(struct __sk_buff *s) {
	s->priority = 1;
	s->tc_index = 5;
	return 1;
}
X strcpy_(struct xdp_md *ctx) {
	__u32 k = 0;
	__u32 *v = bpf_map_lookup_elem(&a, &k);
	if (!v) return 1;
	for (int i = 0; i <= 16; i++) v[i] = i;
	return 2;
}
X arith_or_null(struct xdp_md *ctx) {
	__u32 k = 0;
	__u32 *v = bpf_map_lookup_elem(&a, &k);
	__u32 *p = v + 2;
	asm volatile("" : "+r"(p));
	if (!v) return 1;
	return *p;
}
static long cb(__u32 i, void *c) {
	return i > 3 ? 2 : 0;
}
X cb_ret(struct xdp_md *ctx) {
	bpf_loop(10, cb, 0, 0);
	return 2;
}
X printk_fmt(struct xdp_md *ctx) {
	char f[8];
	f[0] = 'a';
	bpf_trace_printk(f, 8);
	return 2;
}
X misal(struct xdp_md *ctx) {
	volatile char b[16];
	*(volatile __u64 *)(b + 3) = 5;
	return 2;
}
X xdp_data_meta(struct xdp_md *ctx) {
	void *m = (void *)(long)ctx->data_meta;
	return *(__u32 *)m;
}
