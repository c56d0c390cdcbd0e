#include "dataplane/io/lcore/numa.h"

#include <dirent.h>
#include <errno.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NODES = 1024 /* what the kernel's largest configuration has */, BITS = 8 * sizeof(unsigned long) };

int sl_numa_node_of_cpu(int cpu)
{
    char path[64];
    int node = -1;
    if (cpu < 0)
        return -1;
    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d", cpu);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -1;
    for (const struct dirent *d; node < 0 && (d = readdir(dir)) != NULL;) {
        int end = 0, n;
        if (sscanf(d->d_name, "node%d%n", &n, &end) == 1 && d->d_name[end] == '\0')
            node = n;
    }
    closedir(dir);
    return node;
}

int sl_numa_prefer(int node)
{
    unsigned long mask[NODES / BITS] = {0};
    if (node >= NODES)
        return -EINVAL;
    if (node < 0)
        return syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0) == 0 ? 0 : -errno;
    mask[node / BITS] = 1UL << node % BITS;
    return syscall(SYS_set_mempolicy, MPOL_PREFERRED, mask, NODES) == 0 ? 0 : -errno;
}
