// Prints what libbpf makes of an object: what it opens, what it says, what it hands to bpf(2); answers bpf(2) itself.
// Probes of kernel features are asked of the real kernel before. See README.md.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/bpf.h>
#include <bpf/libbpf.h>
#include <bpf/btf.h>

enum kern_feature_id { FEATURES = 64 };
struct kern_feature_cache;
bool feat_supported(struct kern_feature_cache *cache, enum kern_feature_id id);

struct made {
	ino_t inode;
	unsigned int type, key, value;
	char name[32];
};

static struct bpf_object *recording;

long __real_syscall(long nr, ...);
void *__real_mmap64(void *addr, size_t size, int prot, int flags, int fd, off_t off);
int __real_open64(const char *path, int flags, ...);

static void print_hex(const char *name, unsigned long long data, size_t size)
{
	printf(" %s=", name);
	for (size_t i = 0; i < size; i++)
		printf("%02x", ((unsigned char *)data)[i]);
}

// libbpf moves the descriptors of maps, the file behind them stays
static int new_fd(void)
{
	return memfd_create("bpf", MFD_CLOEXEC);
}

static struct made *find(int fd)
{
	static struct made *all;
	static int count;
	struct stat stat = {};

	fstat(fd, &stat);
	for (int i = 0; i < count; i++)
		if (all[i].inode == stat.st_ino)
			return &all[i];
	all = realloc(all, (count + 1) * sizeof(*all));
	memset(&all[count], 0, sizeof(*all));
	all[count].inode = stat.st_ino;
	return &all[count++];
}

static void print_insns(const union bpf_attr *attr)
{
	struct bpf_insn *insns = malloc(attr->insn_cnt * 8 + 8);

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

static void clear_fds(unsigned long long *values, size_t count)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, recording)
		for (size_t i = 0; i < count; i++)
			if (bpf_program__fd(prog) > 0 && values[i] == bpf_program__fd(prog))
				values[i] = 0;
}

static unsigned int struct_ops_size(int type_id)
{
	static struct btf *kernel;

	if (!kernel)
		kernel = btf__load_vmlinux_btf();
	return btf__resolve_size(kernel, type_id);
}

long __wrap_syscall(long nr, long cmd, union bpf_attr *attr, long size, long d, long e, long f)
{
	struct made *map;
	int fd;

	if (nr != __NR_bpf || !recording)
		return __real_syscall(nr, cmd, attr, size, d, e, f);
	switch (cmd) {
	case BPF_PROG_LOAD:
		if (!*attr->prog_name)
			break;
		printf("PROG name=%.15s type=%u attach=%u flags=%u btf_id=%u", attr->prog_name, attr->prog_type,
		       attr->expected_attach_type, attr->prog_flags, attr->attach_btf_id);
		print_insns(attr);
		print_hex("func", attr->func_info, attr->func_info_cnt * attr->func_info_rec_size);
		print_hex("line", attr->line_info, attr->line_info_cnt * attr->line_info_rec_size);
		printf(" license=%s\n", (char *)attr->license);
		return new_fd();
	case BPF_MAP_CREATE:
		// Linux 6.18 has no others
		if (attr->map_type > BPF_MAP_TYPE_ARENA) {
			errno = EINVAL;
			return -1;
		}
		printf("MAP name=%s type=%u key=%u value=%u entries=%u flags=%u extra=%llu key_id=%u value_id=%u "
		       "inner=%d btf=%d vmlinux=%u numa=%u\n",
		       attr->map_name, attr->map_type, attr->key_size, attr->value_size, attr->max_entries,
		       attr->map_flags, (unsigned long long)attr->map_extra, attr->btf_key_type_id,
		       attr->btf_value_type_id, attr->inner_map_fd != 0, attr->btf_fd != 0,
		       attr->btf_vmlinux_value_type_id, attr->numa_node);
		fd = new_fd();
		map = find(fd);
		map->type = attr->map_type;
		map->key = attr->key_size;
		// libbpf writes the kernel's struct, whose size is not in the attributes
		map->value = attr->value_size;
		if (attr->map_type == BPF_MAP_TYPE_STRUCT_OPS)
			map->value = struct_ops_size(attr->btf_vmlinux_value_type_id);
		strcpy(map->name, attr->map_name);
		return fd;
	case BPF_BTF_LOAD:
		printf("BTF");
		print_hex("data", attr->btf, attr->btf_size);
		printf("\n");
		return new_fd();
	case BPF_OBJ_GET:
		printf("OBJ_GET path=%s\n", (char *)attr->pathname);
		errno = ENOENT;
		return -1;
	case BPF_MAP_UPDATE_ELEM:
		map = find(attr->map_fd);
		printf("UPDATE name=%s", map->name);
		print_hex("key", attr->key, map->key);
		if (map->type == BPF_MAP_TYPE_PROG_ARRAY || map->type == BPF_MAP_TYPE_ARRAY_OF_MAPS ||
		    map->type == BPF_MAP_TYPE_HASH_OF_MAPS)
			printf(" value=fd");
		else {
			if (map->type == BPF_MAP_TYPE_STRUCT_OPS)
				clear_fds((unsigned long long *)attr->value, map->value / 8);
			print_hex("value", attr->value, map->value);
		}
		printf("\n");
		return 0;
	case BPF_MAP_FREEZE:
		printf("FREEZE name=%s\n", find(attr->map_fd)->name);
		return 0;
	case BPF_LINK_CREATE:
		return new_fd();
	case BPF_PROG_BIND_MAP:
		printf("BIND name=%s\n", find(attr->prog_bind_map.map_fd)->name);
		return 0;
	case BPF_OBJ_PIN:
		printf("PIN path=%s\n", (char *)attr->pathname);
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

static int say(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char text[1 << 16], *line, *save;

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(text, sizeof(text), format, arguments);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		printf("%s %s\n", level == LIBBPF_WARN ? "WARN" : "INFO", line);
	return 0;
}

#define NOTNULL(text) ((text) ? (text) : "")

// What libbpf writes into tables of functions, when it attaches them; descriptors of programs as zero.
static void print_tables(struct bpf_object *obj)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, obj)
		if (bpf_map__type(map) == BPF_MAP_TYPE_STRUCT_OPS && bpf_map__autocreate(map))
			bpf_link__disconnect(bpf_map__attach_struct_ops(map));
}

static void load(struct bpf_object *obj)
{
	int err;

	recording = obj;
	err = bpf_object__load(obj);
	printf("LOAD %d\n", err);
	if (!err)
		print_tables(obj);
	recording = NULL;
	fflush(stdout);
}

// Every program alone: one that cannot be loaded hides the others.
static void load_each(const char *path, struct bpf_object *obj)
{
	struct bpf_program *prog, *other;

	bpf_object__for_each_program(prog, obj) {
		printf("ONLY %s\n", bpf_program__name(prog));
		fflush(stdout);
		if (!fork()) {
			struct bpf_object *again = bpf_object__open(path);

			bpf_object__for_each_program(other, again)
				bpf_program__set_autoload(other, !strcmp(bpf_program__name(other), bpf_program__name(prog)));
			load(again);
			_exit(0);
		}
		wait(NULL);
	}
}

int main(int argc, char **argv)
{
	struct bpf_object *obj;
	struct bpf_program *prog;
	struct bpf_map *map;

	setvbuf(stdout, NULL, _IOFBF, 1 << 20);
	for (int id = 0; id < NFEATURES; id++)
		feat_supported(NULL, id);
	libbpf_set_print(say);
	obj = bpf_object__open(argv[1]);
	if (!obj) {
		printf("OPEN %d\n", -errno);
		return 0;
	}
	printf("OPEN 0\n");
	bpf_object__for_each_program(prog, obj)
		printf("PROGRAM name=%s type=%u attach=%u autoload=%d flags=%u section=%s\n", bpf_program__name(prog),
		       bpf_program__type(prog), bpf_program__expected_attach_type(prog), bpf_program__autoload(prog),
		       bpf_program__flags(prog), bpf_program__section_name(prog));
	bpf_object__for_each_map(map, obj)
		printf("MAPDEF name=%s type=%u key=%u value=%u entries=%u flags=%u extra=%llu key_id=%u value_id=%u "
		       "autocreate=%d numa=%u pin=%s\n",
		       bpf_map__name(map), bpf_map__type(map), bpf_map__key_size(map), bpf_map__value_size(map),
		       bpf_map__max_entries(map), bpf_map__map_flags(map), (unsigned long long)bpf_map__map_extra(map),
		       bpf_map__btf_key_type_id(map), bpf_map__btf_value_type_id(map), bpf_map__autocreate(map),
		       bpf_map__numa_node(map), NOTNULL(bpf_map__pin_path(map)));
	if (argc > 2)
		load_each(argv[1], obj);
	else
		load(obj);
	return 0;
}
