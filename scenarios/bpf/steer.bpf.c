// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Which socket gets a datagram. `service` brings everything that is sent to a range of ports of any address to one
// socket, which is bound to none of them. `by_session` chooses among sockets that share an address: the first byte of a
// datagram is a session, and each session has its socket.
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} server SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} workers SEC(".maps");

const volatile __u16 first_port = 7000;
const volatile __u16 last_port = 7999;

SEC("sk_lookup")
int service(struct bpf_sk_lookup *ctx)
{
	__u32 zero = 0;
	struct bpf_sock *sk;
	long err;

	if (ctx->protocol != IPPROTO_UDP || ctx->local_port < first_port || ctx->local_port > last_port)
		return SK_PASS;
	sk = bpf_map_lookup_elem(&server, &zero);
	if (!sk)
		return SK_DROP;
	err = bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return err ? SK_DROP : SK_PASS;
}

SEC("sk_reuseport")
int by_session(struct sk_reuseport_md *ctx)
{
	__u32 worker;
	__u8 session;

	if (bpf_skb_load_bytes(ctx, sizeof(struct udphdr), &session, sizeof(session)))
		return SK_DROP;
	worker = session % 4;
	// a worker that is not there: the hash of the flow decides
	bpf_sk_select_reuseport(ctx, &workers, &worker, 0);
	return SK_PASS;
}

char LICENSE[] SEC("license") = "GPL";
