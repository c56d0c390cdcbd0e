#include "dataplane/io/dpdk/xdp_claim.h"

#include "dataplane/io/dpdk/netlink.h"
#include "dataplane/io/dpdk/xdp_steer.h"

#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void read_program_id(void *ctx, struct nlmsghdr *h)
{
    uint32_t *id = ctx;
    struct ifinfomsg *link = NLMSG_DATA(h);
    struct rtattr *xdp = sl_netlink_find(IFLA_RTA(link), (unsigned)IFLA_PAYLOAD(h), IFLA_XDP);
    if (h->nlmsg_type != RTM_NEWLINK || xdp == NULL)
        return;
    struct rtattr *found = sl_netlink_find(RTA_DATA(xdp), (unsigned)RTA_PAYLOAD(xdp), IFLA_XDP_PROG_ID);
    if (found != NULL)
        memcpy(id, RTA_DATA(found), sizeof(*id));
}

/* 0: none. */
static uint32_t attached(unsigned index)
{
    struct sl_netlink_request r;
    uint32_t id = 0;
    sl_netlink_begin(&r, RTM_GETLINK, 0, sizeof(r.link));
    r.link.ifi_index = (int)index;
    return sl_netlink_ask(&r, read_program_id, &id) == 0 ? id : 0;
}

static void ignore(void *ctx, struct nlmsghdr *h)
{
}

static void detach(unsigned index)
{
    struct sl_netlink_request r;
    struct {
        struct rtattr head;
        int32_t fd;
    } none = {.head = {.rta_type = IFLA_XDP_FD, .rta_len = RTA_LENGTH(sizeof(int32_t))}, .fd = -1};
    sl_netlink_begin(&r, RTM_SETLINK, NLM_F_ACK, sizeof(r.link));
    r.link.ifi_index = (int)index;
    sl_netlink_add(&r, IFLA_XDP | NLA_F_NESTED, &none, sizeof(none));
    sl_netlink_ask(&r, ignore, NULL);
}

static int is_ours(uint32_t id)
{
    struct bpf_prog_info info = {0};
    union bpf_attr get = {.prog_id = id};
    int fd = (int)syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &get, sizeof(get));
    if (fd < 0)
        return 0;
    union bpf_attr ask = {
        .info = {.bpf_fd = (uint32_t)fd, .info_len = sizeof(info), .info = (uintptr_t)&info}};
    int ok = (int)syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &ask, sizeof(ask));
    close(fd);
    return ok == 0 && strcmp(info.name, SL_XDP_STEER_NAME) == 0;
}

/* An abstract socket's name is of one network namespace, as the interface is, and goes with its process. */
static int claim(const char *interface)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "sluice-xdp-%s", interface);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&a,
            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) == 0)
        return fd;
    int e = errno;
    close(fd);
    return -e;
}

int sl_xdp_claim(const char *interface, unsigned index, char *err, size_t cap)
{
    int fd = claim(interface);
    if (fd == -EADDRINUSE) {
        snprintf(
            err, cap, "interface %s is busy: another process of Sluice has an AF_XDP port on it", interface);
        return -EBUSY;
    }
    if (fd < 0) {
        snprintf(err, cap, "cannot claim interface %s: %s", interface, strerror(-fd));
        return fd;
    }
    uint32_t id = attached(index);
    if (id != 0 && is_ours(id)) { /* whoever attached it is dead: it held the claim */
        detach(index);
        id = attached(index);
    }
    if (id == 0)
        return fd;
    close(fd);
    snprintf(err, cap,
        "interface %s is busy: XDP program %u is attached to it; sudo ip link set dev %s xdp off", interface,
        id, interface);
    return -EBUSY;
}

uint32_t sl_xdp_program(unsigned index)
{
    return attached(index);
}

void sl_xdp_release(int claim_fd, unsigned index, uint32_t program)
{
    if (program != 0 && attached(index) == program)
        detach(index);
    close(claim_fd);
}
