// Configuration values: virtual ones, numbers, flags, text, weak ones that are not set.
#include "common.h"

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool LINUX_HAS_BPF_COOKIE __kconfig __weak;
extern bool LINUX_UNKNOWN_VIRTUAL __kconfig __weak;
extern int CONFIG_HZ __kconfig __weak;
extern bool CONFIG_X86_64 __kconfig;
extern char CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_BPF_JIT __kconfig;
extern unsigned long CONFIG_NO_SUCH_OPTION __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[8] __kconfig __weak;

SEC("xdp")
int config(struct xdp_md *ctx)
{
	if (LINUX_KERNEL_VERSION < KERNEL_VERSION(6, 18, 0) || LINUX_UNKNOWN_VIRTUAL || !LINUX_HAS_BPF_COOKIE)
		return XDP_ABORTED;
	if (!CONFIG_X86_64 || CONFIG_BPF_SYSCALL != 'y' || CONFIG_BPF_JIT != TRI_YES)
		return XDP_DROP;
	return CONFIG_HZ + CONFIG_NO_SUCH_OPTION + CONFIG_DEFAULT_HOSTNAME[0] > 1000 ? XDP_TX : XDP_PASS;
}

SEC("license") char LICENSE[] = "GPL";
