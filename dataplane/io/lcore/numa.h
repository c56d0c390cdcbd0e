/* Where memory lies, on hosts with several sockets: a data lcore's own belongs to its CPU's. The kernel's
 * calls themselves, so that nothing needs libnuma; where there is one node only, or no permission, all of it
 * does nothing. */
#pragma once

/* The NUMA node of a CPU; -1: unknown, or cpu is -1. */
int sl_numa_node_of_cpu(int cpu);
/* What the calling thread maps from here on (secure_memory.h) should lie on `node`, whoever touches it first;
 * -1: where it is touched first, the kernel's default. 0, or -errno: then nothing has changed. */
int sl_numa_prefer(int node);
