#include "dataplane/io/dpdk/memif_cures.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <rte_memory.h>
#include <stdbool.h>
#include <sys/socket.h>

static _Thread_local bool interrupt_thread;
static _Thread_local int control_fd = -1;

static void *next_of(const char *name, void **cache)
{
    void *f = __atomic_load_n(cache, __ATOMIC_RELAXED);
    if (f == NULL) {
        f = dlsym(RTLD_NEXT, name);
        __atomic_store_n(cache, f, __ATOMIC_RELAXED);
    }
    return f;
}

int rte_memseg_get_fd(const struct rte_memseg *ms)
{
    static void *cache;
    int (*eal)(const struct rte_memseg *);
    *(void **)&eal = next_of("rte_memseg_get_fd", &cache);
    int fd = eal(ms);
    return fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    static void *cache;
    ssize_t (*libc)(int, const struct msghdr *, int);
    *(void **)&libc = next_of("sendmsg", &cache);
    ssize_t n = libc(fd, m, flags);
    if (interrupt_thread)
        control_fd = fd;
    if (n < 0 && interrupt_thread && (errno == EPIPE || errno == ECONNRESET)) {
        n = 0;
        for (size_t i = 0; i < m->msg_iovlen; i++)
            n += (ssize_t)m->msg_iov[i].iov_len;
    }
    return n;
}

int sl_memif_cures_check(void)
{
    int (*fd)(const struct rte_memseg *) = rte_memseg_get_fd;
    ssize_t (*msg)(int, const struct msghdr *, int) = sendmsg;
    bool ours = dlsym(RTLD_DEFAULT, "rte_memseg_get_fd") == *(void **)&fd &&
                dlsym(RTLD_DEFAULT, "sendmsg") == *(void **)&msg;
    return ours ? 0 : -ENOSYS;
}

void sl_memif_cures_this_thread(void)
{
    interrupt_thread = true;
}

int sl_memif_control_fd(void)
{
    return control_fd;
}
