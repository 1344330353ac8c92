// Global variables in an arena: they lie at its start, and the map carries their initial values.
#include "common.h"

#define __arena __attribute__((address_space(1)))

struct {
	__uint(type, 33); // BPF_MAP_TYPE_ARENA
	__uint(map_flags, 1 << 10); // BPF_F_MMAPABLE
	__uint(max_entries, 4);
	enum { map_extra_value = 0x1ull << 44 } map_extra;
} arena SEC(".maps");

int __arena counter = 5;
int __arena second = 7;

SEC("syscall")
int bump(void *ctx)
{
	(void)&arena;
	counter += second;
	return counter;
}

SEC("license") char LICENSE[] = "GPL";
