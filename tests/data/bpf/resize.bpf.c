// Sections with an array at their end, which grow when the map does.
#include "common.h"
int plain SEC(".data.custom");
int array[2] SEC(".data.custom") = {1, 2};
struct pair { __u16 a, b; } pairs[3];
const volatile __u64 fixed[1] = {7};
SEC("socket") int prog(void *ctx) { return array[1] + pairs[2].b + plain + fixed[0]; }
char LICENSE[] SEC("license") = "GPL";
