// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A security module with three rules for one user: it may load no programs, open nothing below a folder of a certain name,
// and connect to no address of one network. What it refuses is told in the trace pipe.
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define EPERM 1
#define AF_INET 2
#define NAME_BYTES 32
#define DEEPEST 16

struct qstr {
	const unsigned char *name;
} KERNEL_STRUCT;
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
} KERNEL_STRUCT;
struct path {
	struct dentry *dentry;
} KERNEL_STRUCT;
struct file {
	struct path f_path;
} KERNEL_STRUCT;
struct socket;
struct sockaddr;

// set before the programs are loaded
const volatile __u32 denied_uid = 0;
const volatile char folder[NAME_BYTES] = "";
const volatile __u32 network = 0, netmask = 0; // in the order of the host

static __always_inline int concerned(void)
{
	return (__u32)bpf_get_current_uid_gid() == denied_uid;
}

SEC("lsm/bpf")
int BPF_PROG(no_programs, int cmd, union bpf_attr *attr, unsigned int size, _Bool kernel, int result)
{
	if (result || cmd != BPF_PROG_LOAD || !concerned())
		return result;
	bpf_printk("refused: a program");
	return -EPERM;
}

static __always_inline int is_folder(struct dentry *dentry)
{
	char name[NAME_BYTES] = {};
	int i;

	bpf_probe_read_kernel_str(name, sizeof(name), dentry->d_name.name);
	for (i = 0; i < NAME_BYTES; i++) {
		if (name[i] != folder[i])
			return 0;
		if (!name[i])
			break;
	}
	return 1;
}

SEC("lsm/file_open")
int BPF_PROG(no_folder, struct file *file, int result)
{
	struct dentry *dentry = file->f_path.dentry;
	int depth;

	if (result || !concerned())
		return result;
	for (depth = 0; depth < DEEPEST; depth++) {
		if (is_folder(dentry)) {
			bpf_printk("refused: a file");
			return -EPERM;
		}
		dentry = dentry->d_parent; // the root is its own parent
	}
	return 0;
}

SEC("lsm/socket_connect")
int BPF_PROG(no_network, struct socket *sock, struct sockaddr *address, int addrlen, int result)
{
	struct sockaddr_in to = {};
	__u32 target;

	if (result || !concerned() || addrlen < (int)sizeof(to))
		return result;
	bpf_probe_read_kernel(&to, sizeof(to), address);
	target = bpf_ntohl(to.sin_addr.s_addr);
	if (to.sin_family != AF_INET || (target & netmask) != network)
		return 0;
	bpf_printk("refused: an address, port %d", bpf_ntohs(to.sin_port));
	return -EPERM;
}

char LICENSE[] SEC("license") = "GPL";
