#include "device-sim/fleet/port.h"

#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/lcore/address.h"
#include "dataplane/io/uring/udp_port.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_RING = 512 };

/* A socket for all phones where each has an address, one for each where they have ports. */
static int open_uring(
    struct sl_fleet_port *p, const struct sl_experiment *e, uint32_t buffers, char *err, size_t err_cap)
{
    struct sl_uring_port_config port = {.local = p->addresses->first,
        .n_sockets = p->addresses->by_port ? p->n_phones : 1,
        .mtu = e->edge.data.mtu,
        .n_buffers = buffers,
        .link_timeout_ns = (uint64_t)e->edge.data.peer_timeout_s * 1000000000u};

    if (port.n_sockets > SL_URING_SOCKETS_MAX) {
        snprintf(err, err_cap,
            "%u phones with a port each are more than %d: give edge.data.fleet_address an address without a "
            "port, for "
            "an address each",
            p->n_phones, SL_URING_SOCKETS_MAX);
        return -EINVAL;
    }
    if (!p->addresses->by_port) /* all of this host's: those of the phones are among them */
        memset(port.local.ip + (sl_addr_is_mapped(&port.local) ? 12 : 0), 0,
            sl_addr_is_mapped(&port.local) ? 4 : 16);
    return sl_uring_port_open(&port, &p->port, err, err_cap);
}

static int start_eal(
    struct sl_fleet_port *p, const struct sl_experiment *e, const char *run_dir, char *err, size_t err_cap)
{
    const char *extra[SL_EAL_EXTRA_MAX + 1] = {NULL};
    struct sl_eal_config eal = {.run_dir = run_dir,
        .file_prefix = "sluice-sim",
        .memory_mib = e->edge.data.memory_mib,
        .huge_pages = e->edge.data.huge_pages,
        .cpu = -1,
        .pci_device = sl_eal_is_pci(e->edge.data.fleet_backend) ? e->edge.data.fleet_backend : NULL,
        .extra = extra};

    for (uint32_t i = 0; i < e->edge.data.n_eal_extra; i++)
        extra[i] = e->edge.data.eal_extra[i];
    int rc = sl_eal_start(&eal, p->eal_args, sizeof(p->eal_args), err, err_cap);
    p->eal = rc == 0;
    return rc;
}

/* Whether an address is a phone's: what the port answers for, where it answers. */
static bool owns(void *ctx, const uint8_t ip[16])
{
    const struct sl_fleet_port *p = ctx;
    struct sl_addr a = p->addresses->first;

    memcpy(a.ip, ip, sizeof(a.ip));
    sl_phone_address_home(p->addresses, &a);
    return sl_phone_of_address(p->addresses, &a, p->n_phones) >= 0;
}

static int open_port(struct sl_fleet_port *p, const struct sl_experiment *e, const char *run_dir,
    uint32_t buffers, char *err, size_t err_cap)
{
    char socket[SL_PATH_BYTES + 16];
    struct sl_addr edge = {0}; /* a memif ring for each of its queues, the UDP ports in order */
    sl_addr_parse(e->edge.data.address, &edge);
    struct sl_dpdk_port_config port = {.device = e->edge.data.fleet_backend,
        .memif_socket = socket,
        .memif_server = true,
        .ring_size = DEFAULT_RING,
        .mtu = e->edge.data.mtu,
        .udp_port = p->addresses->first.port,
        .n_udp_ports = (uint16_t)(p->addresses->by_port ? p->n_phones : 1),
        .owns = owns,
        .owns_ctx = p,
        .n_rings = (uint16_t)e->edge.data.queues,
        .ring_port = edge.port,
        .n_mbufs = buffers,
        .peer_timeout_ns = (uint64_t)e->edge.data.peer_timeout_s * 1000000000u};

    struct sl_addr first = sl_phone_address(p->addresses, 0), gateway;

    memcpy(port.own_ip, first.ip, sizeof(port.own_ip));
    if (e->edge.data.fleet_gateway[0]) {
        if (sl_addr_parse(e->edge.data.fleet_gateway, &gateway)) {
            snprintf(
                err, err_cap, "edge.data.fleet_gateway: '%s' is not an address", e->edge.data.fleet_gateway);
            return -EINVAL;
        }
        memcpy(port.gateway, gateway.ip, sizeof(port.gateway));
    }
    snprintf(socket, sizeof(socket), "%s/memif.sock", run_dir);
    return sl_dpdk_port_open(&port, &p->port, err, err_cap);
}

int sl_fleet_port_open(struct sl_fleet_port *p, const struct sl_experiment *e, const char *run_dir,
    const struct sl_phone_addresses *addresses, uint32_t buffers, char *err, size_t err_cap)
{
    p->addresses = addresses;
    p->n_phones = e->n_devices;
    if (strcmp(e->edge.data.fleet_backend, SL_BACKEND_URING) == 0)
        return open_uring(p, e, buffers, err, err_cap);
    int rc = start_eal(p, e, run_dir, err, err_cap);
    return rc ? rc : open_port(p, e, run_dir, buffers, err, err_cap);
}

void sl_fleet_port_close(struct sl_fleet_port *p)
{
    sl_port_close(p->port);
    if (p->eal)
        sl_eal_stop();
}
