// Declarations that are hard to write down: nested function pointers, padding, bit-fields, cycles, names that clash.
#include "common.h"

struct ring;
typedef int (*handler_t)(struct ring *ring, const char *const names[4], ...);
typedef handler_t (*chooser_t)(void);
typedef int matrix_t[3][4];
enum small { SMALL_A, SMALL_B = -3 } __attribute__((mode(byte)));
enum big { BIG_A = 1, BIG_B = 0x123456789aULL };

struct holes {
	char a;
	long b;
	short c;
	int d : 3, e : 7;
	unsigned long f : 40;
	char g;
	int : 13;
	int h : 5;
	char tail;
} __attribute__((aligned(32)));

struct tight {
	char a;
	long b;
	short c[3];
} __attribute__((packed));

struct ring {
	struct ring *next;
	handler_t handlers[2];
	chooser_t choose;
	int (*(*table[2])(int, struct holes *))(char);
	const volatile char *const restrict_me;
	void (*(*signal)(int, void (*)(int)))(int);
	matrix_t *matrix;
	union {
		struct { __u16 lo, hi; } parts;
		__u32 whole;
		enum { INLINE_A, INLINE_B } kind;
	};
	struct tight tight[2][3];
	char flexible[];
};

struct ring_user { struct ring *ring; int *restrict p; struct { struct ring_user *owner; } *anonymous; };

struct empty {};
struct uses { struct empty none; enum small small; enum big big; float f; struct holes holes; };

struct ring ring_instance;
struct ring_user user;
struct uses uses;

SEC("xdp")
int hold(struct xdp_md *ctx)
{
	return ring_instance.whole + (user.p != NULL) + uses.small;
}

SEC("license") char LICENSE[] = "GPL";
