#include "tests/bench/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sockaddr_in bench_netns_address(unsigned index, uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(UINT32_C(0x0a630001) + index)};
}

static int ip(struct bench_twin *s, const char *format, ...)
{
    char arguments[256], command[300];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof(arguments), format, args);
    va_end(args);
    snprintf(command, sizeof(command), "ip %s", arguments);
    if (system(command) == 0)
        return 0;
    snprintf(s->err, s->err_cap, "`%s` failed: is iproute2 installed?", command);
    return -EIO;
}

int bench_netns_join(struct bench_twin *s, unsigned mtu)
{
    int ret = 0;
    if (unshare(CLONE_NEWNET) != 0) {
        ret = -errno;
        snprintf(s->err, s->err_cap, "a network namespace takes root: %s", strerror(errno));
        return ret;
    }
    if (bench_twin_meet(s) != 0)
        return -ECANCELED;
    if (s->index == 0)
        ret = ip(s, "link add sl0 mtu %u type veth peer name sl0 mtu %u netns %d", mtu, mtu,
            bench_twin_other_pid(s));
    if (ret != 0 || bench_twin_meet(s) != 0)
        return ret != 0 ? ret : -ECANCELED;
    ret = ip(s, "link set lo up");
    if (ret == 0)
        ret = ip(s, "address add 10.99.0.%u/24 dev sl0", s->index + 1);
    if (ret == 0)
        ret = ip(s, "link set sl0 up");
    if (ret != 0)
        return ret;
    return bench_twin_meet(s) == 0 ? 0 : -ECANCELED;
}
