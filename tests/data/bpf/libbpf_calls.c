// Prints what libbpf hands to the kernel for an object, and answers bpf(2) in the kernel's place. See README.md.
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/bpf.h>
#include <bpf/libbpf.h>

static int recording;

long __real_syscall(long nr, ...);
void *__real_mmap64(void *addr, size_t size, int prot, int flags, int fd, off_t off);
int __real_open64(const char *path, int flags, ...);

static void print_hex(const char *name, unsigned long long data, size_t size)
{
	printf(" %s=", name);
	for (size_t i = 0; i < size; i++)
		printf("%02x", ((unsigned char *)data)[i]);
}

// map descriptors differ from run to run: print them as zero
static void print_insns(const union bpf_attr *attr)
{
	struct bpf_insn *insns = malloc(attr->insn_cnt * 8);

	memcpy(insns, (void *)attr->insns, attr->insn_cnt * 8);
	for (unsigned int i = 0; i < attr->insn_cnt; i++) {
		if (insns[i].code != 0x18)
			continue;
		if (insns[i].src_reg == BPF_PSEUDO_MAP_FD || insns[i].src_reg == BPF_PSEUDO_MAP_VALUE)
			insns[i].imm = 0;
		i++;
	}
	print_hex("insns", (unsigned long long)insns, attr->insn_cnt * 8);
	free(insns);
}

// what libbpf tries out about the kernel, which answers for itself
static int is_probe(const char *name)
{
	return !*name || !strncmp(name, "libbpf_", 7) || !strncmp(name, "det_", 4) || !strcmp(name, "arr") ||
	       !strcmp(name, "global_reloc");
}

long __wrap_syscall(long nr, long cmd, union bpf_attr *attr, long size, long d, long e, long f)
{
	if (nr != __NR_bpf || !recording)
		return __real_syscall(nr, cmd, attr, size, d, e, f);
	switch (cmd) {
	case BPF_PROG_LOAD:
		if (is_probe(attr->prog_name))
			break;
		printf("PROG name=%s type=%u attach=%u flags=%u btf_id=%u", attr->prog_name, attr->prog_type,
		       attr->expected_attach_type, attr->prog_flags, attr->attach_btf_id);
		print_insns(attr);
		print_hex("func", attr->func_info, attr->func_info_cnt * attr->func_info_rec_size);
		print_hex("line", attr->line_info, attr->line_info_cnt * attr->line_info_rec_size);
		printf(" license=%s\n", (char *)attr->license);
		return __real_open64("/dev/null", O_RDONLY | O_CLOEXEC);
	case BPF_MAP_CREATE:
		if (is_probe(attr->map_name))
			break;
		printf("MAP name=%s type=%u key=%u value=%u entries=%u flags=%u extra=%llu key_id=%u value_id=%u inner=%d\n",
		       attr->map_name, attr->map_type, attr->key_size, attr->value_size, attr->max_entries,
		       attr->map_flags, (unsigned long long)attr->map_extra, attr->btf_key_type_id,
		       attr->btf_value_type_id, attr->inner_map_fd != 0);
		return __real_open64("/dev/null", O_RDONLY | O_CLOEXEC);
	case BPF_BTF_LOAD:
		printf("BTF");
		print_hex("data", attr->btf, attr->btf_size);
		printf("\n");
		return __real_open64("/dev/null", O_RDONLY | O_CLOEXEC);
	case BPF_OBJ_GET:
		errno = ENOENT;
		return -1;
	case BPF_MAP_UPDATE_ELEM:
	case BPF_MAP_FREEZE:
	case BPF_PROG_BIND_MAP:
	case BPF_OBJ_PIN:
		return 0;
	}
	return __real_syscall(nr, cmd, attr, size, d, e, f);
}

void *__wrap_mmap64(void *addr, size_t size, int prot, int flags, int fd, off_t off)
{
	if (recording && fd >= 0 && (flags & MAP_SHARED)) {
		flags = MAP_PRIVATE | MAP_ANONYMOUS | (flags & MAP_FIXED);
		return __real_mmap64(addr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
	}
	return __real_mmap64(addr, size, prot, flags, fd, off);
}

int __wrap_open64(const char *path, int flags, int mode)
{
	const char *btf = getenv("KERNEL_BTF");

	return __real_open64(btf && !strcmp(path, "/sys/kernel/btf/vmlinux") ? btf : path, flags, mode);
}

int main(int argc, char **argv)
{
	struct bpf_object *obj = bpf_object__open(argv[1]);
	int err;

	if (!obj)
		return 1;
	recording = 1;
	err = bpf_object__load(obj);
	recording = 0;
	printf("LOAD %d\n", err);
	return 0;
}
