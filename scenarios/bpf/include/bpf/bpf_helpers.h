/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a BPF program in C needs besides the kernel's own <linux/bpf.h>: the conventions of a loader (sections, map
 * definitions) and the helper functions. Each helper is a constant function pointer whose value is the helper's
 * number, so that the compiler emits `call NUMBER`; the numbers and the signatures are those of enum bpf_func_id and
 * the comments in include/uapi/linux/bpf.h. Include <linux/bpf.h> first.
 */
#ifndef BPF_HELPERS_H
#define BPF_HELPERS_H

/* The section names a program's type and attach point, or says that a variable is a map definition or the licence. */
#define SEC(name) __attribute__((section(name), used))

/* Members of a map definition: a number travels as the length of an array type, a type as the target of a pointer. */
#define __uint(name, number) int(*name)[number]
#define __type(name, type) __typeof__(type) *name
#define __array(name, type) __typeof__(type) *name[]

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif
#ifndef __hidden
#define __hidden __attribute__((visibility("hidden")))
#endif
#ifndef barrier_var
#define barrier_var(var) asm volatile("" : "+r"(var))
#endif

#ifndef NULL
#define NULL ((void *)0)
#endif
#ifndef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)
#endif
#define bpf_memcpy __builtin_memcpy
#define bpf_memset __builtin_memset

#define BPF_HELPER(ret, name, ...) \
	static ret (*const bpf_##name)(__VA_ARGS__) __attribute__((unused)) = (void *)BPF_FUNC_##name

struct seq_file;

/* maps */
BPF_HELPER(void *, map_lookup_elem, void *map, const void *key);
BPF_HELPER(long, map_update_elem, void *map, const void *key, const void *value, __u64 flags);
BPF_HELPER(long, map_delete_elem, void *map, const void *key);
BPF_HELPER(void *, map_lookup_percpu_elem, void *map, const void *key, __u32 cpu);
BPF_HELPER(long, for_each_map_elem, void *map, void *callback, void *callback_ctx, __u64 flags);
BPF_HELPER(long, spin_lock, struct bpf_spin_lock *lock);
BPF_HELPER(long, spin_unlock, struct bpf_spin_lock *lock);
BPF_HELPER(long, tail_call, void *ctx, void *prog_array_map, __u32 index);
BPF_HELPER(long, loop, __u32 nr_loops, void *callback, void *callback_ctx, __u64 flags);

/* ring buffer */
BPF_HELPER(long, ringbuf_output, void *ringbuf, void *data, __u64 size, __u64 flags);
BPF_HELPER(void *, ringbuf_reserve, void *ringbuf, __u64 size, __u64 flags);
BPF_HELPER(void, ringbuf_submit, void *data, __u64 flags);
BPF_HELPER(void, ringbuf_discard, void *data, __u64 flags);
BPF_HELPER(__u64, ringbuf_query, void *ringbuf, __u64 flags);

/* the machine */
BPF_HELPER(__u64, ktime_get_ns, void);
BPF_HELPER(__u32, get_prandom_u32, void);
BPF_HELPER(__u32, get_smp_processor_id, void);
BPF_HELPER(long, trace_printk, const char *fmt, __u32 fmt_size, ...);

/* who is running, and what is traced */
BPF_HELPER(__u64, get_current_pid_tgid, void);
BPF_HELPER(__u64, get_current_uid_gid, void);
BPF_HELPER(long, get_current_comm, void *buf, __u32 size_of_buf);
BPF_HELPER(__u64, get_attach_cookie, void *ctx);
BPF_HELPER(long, probe_read_kernel, void *dst, __u32 size, const void *unsafe_ptr);
BPF_HELPER(long, probe_read_kernel_str, void *dst, __u32 size, const void *unsafe_ptr);
BPF_HELPER(long, probe_read_user, void *dst, __u32 size, const void *unsafe_ptr);
BPF_HELPER(long, probe_read_user_str, void *dst, __u32 size, const void *unsafe_ptr);
BPF_HELPER(__u64, get_func_ip, void *ctx);
BPF_HELPER(long, get_stackid, void *ctx, void *map, __u64 flags);
BPF_HELPER(long, perf_prog_read_value, void *ctx, void *buf, __u32 buf_size);
BPF_HELPER(long, seq_write, struct seq_file *m, const void *data, __u32 len);
BPF_HELPER(long, seq_printf, struct seq_file *m, const char *fmt, __u32 fmt_size, const void *data, __u32 data_len);

/* sockets */
BPF_HELPER(long, sk_assign, void *ctx, void *sk, __u64 flags);
BPF_HELPER(long, sk_release, void *sk);
BPF_HELPER(long, sk_select_reuseport, struct sk_reuseport_md *reuse, void *map, void *key, __u64 flags);
BPF_HELPER(long, setsockopt, void *bpf_socket, int level, int optname, void *optval, int optlen);
BPF_HELPER(long, getsockopt, void *bpf_socket, int level, int optname, void *optval, int optlen);
BPF_HELPER(long, sock_ops_cb_flags_set, struct bpf_sock_ops *bpf_sock, int argval);
BPF_HELPER(long, sock_map_update, struct bpf_sock_ops *skops, void *map, void *key, __u64 flags);
BPF_HELPER(long, sock_hash_update, struct bpf_sock_ops *skops, void *map, void *key, __u64 flags);
BPF_HELPER(long, sk_redirect_map, struct __sk_buff *skb, void *map, __u32 key, __u64 flags);
BPF_HELPER(long, sk_redirect_hash, struct __sk_buff *skb, void *map, void *key, __u64 flags);
BPF_HELPER(long, msg_redirect_map, struct sk_msg_md *msg, void *map, __u32 key, __u64 flags);
BPF_HELPER(long, msg_redirect_hash, struct sk_msg_md *msg, void *map, void *key, __u64 flags);
BPF_HELPER(long, msg_apply_bytes, struct sk_msg_md *msg, __u32 bytes);
BPF_HELPER(long, msg_cork_bytes, struct sk_msg_md *msg, __u32 bytes);
BPF_HELPER(long, msg_pull_data, struct sk_msg_md *msg, __u32 start, __u32 end, __u64 flags);
BPF_HELPER(long, msg_push_data, struct sk_msg_md *msg, __u32 start, __u32 len, __u64 flags);
BPF_HELPER(long, msg_pop_data, struct sk_msg_md *msg, __u32 start, __u32 len, __u64 flags);
BPF_HELPER(long, lwt_push_encap, struct __sk_buff *skb, __u32 type, void *hdr, __u32 len);

/* packets */
BPF_HELPER(long, skb_load_bytes, const void *skb, __u32 offset, void *to, __u32 len);
BPF_HELPER(long, redirect, __u32 ifindex, __u64 flags);
BPF_HELPER(long, redirect_map, void *map, __u64 key, __u64 flags);
BPF_HELPER(long, xdp_adjust_head, struct xdp_md *ctx, int delta);
BPF_HELPER(long, xdp_adjust_tail, struct xdp_md *ctx, int delta);
BPF_HELPER(long, xdp_adjust_meta, struct xdp_md *ctx, int delta);
BPF_HELPER(long, xdp_load_bytes, struct xdp_md *ctx, __u32 offset, void *buf, __u32 len);
BPF_HELPER(long, xdp_store_bytes, struct xdp_md *ctx, __u32 offset, void *buf, __u32 len);
BPF_HELPER(__u64, xdp_get_buff_len, struct xdp_md *ctx);
BPF_HELPER(__s64, csum_diff, const __be32 *from, __u32 from_size, const __be32 *to, __u32 to_size, __wsum seed);

#undef BPF_HELPER

/* A line in the trace pipe: at most three arguments, as bpf_trace_printk takes them. */
#define bpf_printk(fmt, ...)                                               \
	({                                                                 \
		static const char bpf_printk_fmt[] = fmt;                  \
		bpf_trace_printk(bpf_printk_fmt, sizeof(bpf_printk_fmt), ##__VA_ARGS__); \
	})

#endif /* BPF_HELPERS_H */
