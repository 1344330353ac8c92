// Configuration in constants that a loader may set: the verifier knows them, and dead branches go away.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct config {
	__u32 mode;
	__u32 max_len;
	__u8 allowed[8];
};

const volatile struct config config = { .mode = 2, .max_len = 512, .allowed = { IPPROTO_ICMP, IPPROTO_UDP } };
const volatile _Bool debug = 0;
const volatile __u32 loops = 3;

__u32 checked;

SEC("xdp")
int rodata_config(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);

	if (debug)
		bpf_printk("length %d", (int)(data_end - data));
	if (config.mode == 0)
		return XDP_PASS;
	if (config.mode == 1)
		return *(volatile int *)0; // never reached: the verifier sees that mode is not 1
	if (data_end - data > config.max_len)
		return XDP_DROP;
	if ((void *)(ip + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	for (__u32 i = 0; i < loops && i < 8; i++) {
		checked++;
		if (ip->protocol == config.allowed[i])
			return XDP_TX;
	}
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
