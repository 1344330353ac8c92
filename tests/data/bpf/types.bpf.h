#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

typedef unsigned int __u32;

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

struct ring;

typedef int (*handler_t)(struct ring *, const char * const *, ...);

typedef handler_t (*chooser_t)(void);

typedef int matrix_t[3][4];

typedef unsigned short __u16;

struct tight {
	char a;
	long b;
	short c[3];
} __attribute__((packed));

struct holes;

struct ring {
	struct ring *next;
	handler_t handlers[2];
	chooser_t choose;
	int (* (*table[2])(int, struct holes *))(char);
	volatile const char * const restrict_me;
	void (* (*signal)(int, void (*)(int)))(int);
	matrix_t *matrix;
	union {
		struct {
			__u16 lo;
			__u16 hi;
		} parts;
		__u32 whole;
		enum {
			INLINE_A = 0,
			INLINE_B = 1,
		} kind;
	};
	struct tight tight[2][3];
	char flexible[0];
};

struct holes {
	char a;
	long b;
	short c;
	int d: 3;
	int e: 7;
	long: 38;
	unsigned long f: 40;
	char g;
	int h: 5;
	char tail;
	long: 64;
	long: 64;
	long: 64;
};

struct ring_user {
	struct ring *ring;
	int * restrict p;
	struct {
		struct ring_user *owner;
	} *anonymous;
};

struct empty {};

enum small {
	SMALL_A = 0,
	SMALL_B = -3,
};

enum big {
	BIG_A = 1ULL,
	BIG_B = 78187493530ULL,
};

struct uses {
	struct empty none;
	enum small small;
	enum big big;
	float f;
	long: 64;
	struct holes holes;
};

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
