// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Short cuts between processes of one host, as service meshes take them: connections to one port enter a map by both of
// their ends, and what one end sends is handed to the reader of the other, past all of TCP and IP.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2

struct ends {
	__u32 local_ip, remote_ip;
	__u32 local_port, remote_port; // both in the order of the host
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 64);
	__type(key, struct ends);
	__type(value, __u64);
} sockets SEC(".maps");

const volatile __u32 service_port = 8080;
__u64 joined = 0, bytes = 0, aside = 0;

SEC("sockops")
int join(struct bpf_sock_ops *ops)
{
	struct ends key = {};

	if (ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	key.local_ip = ops->local_ip4;
	key.remote_ip = ops->remote_ip4;
	key.local_port = ops->local_port;
	key.remote_port = bpf_ntohl(ops->remote_port);
	if (ops->family != AF_INET || (key.local_port != service_port && key.remote_port != service_port))
		return 1;
	if (!bpf_sock_hash_update(ops, &sockets, &key, BPF_NOEXIST))
		joined++;
	return 1;
}

SEC("sk_msg")
int shortcut(struct sk_msg_md *msg)
{
	// the other end's key
	struct ends key = {
		.local_ip = msg->remote_ip4,
		.remote_ip = msg->local_ip4,
		.local_port = bpf_ntohl(msg->remote_port),
		.remote_port = msg->local_port,
	};

	bytes += msg->size;
	if (bpf_msg_redirect_hash(msg, &sockets, &key, BPF_F_INGRESS) == SK_PASS)
		return SK_PASS;
	// the other end is elsewhere: the usual way
	aside++;
	return SK_PASS;
}

char LICENSE[] SEC("license") = "GPL";
