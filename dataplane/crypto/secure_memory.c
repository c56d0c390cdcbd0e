#include "dataplane/crypto/secure_memory.h"

#include <linux/mempolicy.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const size_t huge_page = (size_t)2 << 20; /* x86-64 and arm64 with 4 KiB base pages */

/* The layout follows from the size alone, so that unmap needs no record: guard, body, guard, each of whole
 * pages `unit` large. */
static size_t unit_of(size_t bytes)
{
    return bytes >= huge_page ? huge_page : (size_t)sysconf(_SC_PAGESIZE);
}

static bool layout(size_t bytes, size_t *unit, size_t *body)
{
    *unit = unit_of(bytes);
    if (!bytes || bytes > SIZE_MAX - 4 * *unit)
        return false;
    *body = (bytes + *unit - 1) / *unit * *unit;
    return true;
}

/* An inaccessible range of `len` bytes aligned to `unit`. */
static uint8_t *reserve(size_t len, size_t unit)
{
    uint8_t *p = mmap(NULL, len + unit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t before;

    if (p == MAP_FAILED)
        return NULL;
    before = (unit - (uintptr_t)p % unit) % unit;
    if (before)
        munmap(p, before);
    if (unit - before)
        munmap(p + before + len, unit - before);
    return p + before;
}

/* A thread's own NUMA policy is for pages that this thread touches first. Given to the mapping, it is for
 * all. */
static void follow_policy(void *p, size_t bytes)
{
    enum { NODES = 1024, BITS = 8 * sizeof(unsigned long) };
    unsigned long nodes[NODES / BITS] = {0};
    int mode = MPOL_DEFAULT;

    if (syscall(SYS_get_mempolicy, &mode, nodes, NODES, NULL, 0) == 0 && mode != MPOL_DEFAULT)
        syscall(SYS_mbind, p, bytes, mode, nodes, NODES, 0); /* a wish, like huge pages */
}

void *sl_secure_map(size_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    size_t unit, body;
    uint8_t *range;
    void *p = MAP_FAILED;

    if (!layout(bytes, &unit, &body))
        return NULL;
    range = reserve(body + 2 * unit, unit);
    if (!range)
        return NULL;
    if (unit == huge_page)
        p = mmap(range + unit, body, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);
    if (p == MAP_FAILED)
        p = mmap(range + unit, body, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (p == MAP_FAILED) {
        munmap(range, body + 2 * unit);
        return NULL;
    }
    follow_policy(p, body);
    madvise(p, body, MADV_HUGEPAGE);            /* a wish: not all kernels grant it */
    if (madvise(p, body, MADV_DONTDUMP) != 0) { /* a promise */
        munmap(range, body + 2 * unit);
        return NULL;
    }
    return p;
}

void sl_secure_unmap(void *p, size_t bytes)
{
    size_t unit, body;

    if (!p || !layout(bytes, &unit, &body))
        return;
    explicit_bzero(p, bytes);
    munmap((uint8_t *)p - unit, body + 2 * unit);
}
