#include "device-sim/fleet/address.h"

#include "dataplane/io/lcore/address.h"
#include "dataplane/io/uring/udp_port.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PER_SUBNET = 250, SECOND_OCTET = 13, THIRD_OCTET = 14 };

static int given(const struct sl_experiment *e, struct sl_phone_addresses *out, char *err, size_t cap)
{
    const char *text = e->edge.data.fleet_address;

    if (sl_addr_parse(text, &out->first) || sl_addr_is_unspecified(&out->first)) {
        snprintf(err, cap,
            "edge.data.fleet_address: '%s' is neither an address (10.77.0.0: an address for each phone) nor "
            "one with a "
            "port (192.0.2.7:5000: a port for each phone)",
            text);
        return -EINVAL;
    }
    out->by_port = out->first.port != 0;
    if (!out->by_port)
        out->first.port = SL_PHONE_PORT;
    if (out->by_port && out->first.port + e->n_devices > 65536) {
        snprintf(err, cap, "edge.data.fleet_address: %u phones from port %u on do not fit below 65536",
            e->n_devices, out->first.port);
        return -EINVAL;
    }
    return 0;
}

/* Towards the edge, wherever it is. */
static int of_this_host(const struct sl_addr *edge, struct sl_phone_addresses *out, char *err, size_t cap)
{
    char text[SL_ADDR_TEXT];
    int rc = sl_uring_local_address(edge, &out->first);

    if (rc) {
        sl_addr_format(edge, text, sizeof(text));
        snprintf(err, cap,
            "no way from here to edge.data.address %s: %s; name this host's in edge.data.fleet_address", text,
            strerror(-rc));
        return rc;
    }
    out->first.port = SL_PHONE_PORT;
    out->by_port = true;
    return 0;
}

int sl_phone_addresses(const struct sl_experiment *e, struct sl_phone_addresses *out, char *err, size_t cap)
{
    struct sl_addr edge;

    memset(out, 0, sizeof(*out));
    if (e->edge.data.fleet_address[0])
        return given(e, out, err, cap);
    if (sl_addr_parse(e->edge.data.address, &edge)) {
        snprintf(err, cap, "edge.data.address: '%s' is not an address and port, like 10.77.0.1:4433",
            e->edge.data.address);
        return -EINVAL;
    }
    bool kernel = strcmp(e->edge.data.fleet_backend, SL_BACKEND_URING) == 0;
    if (kernel && !(sl_addr_is_loopback(&edge) && sl_addr_is_mapped(&edge)))
        return of_this_host(&edge, out, err, cap);
    /* All of 127.0.0.0/8 is this host. */
    sl_addr_parse(kernel ? "127.77.0.0" : sl_addr_is_mapped(&edge) ? "10.77.0.0" : "[fd77::]", &out->first);
    out->first.port = SL_PHONE_PORT;
    return 0;
}

struct sl_addr sl_phone_address(const struct sl_phone_addresses *p, uint32_t phone)
{
    struct sl_addr a = p->first;

    if (p->by_port) {
        a.port = (uint16_t)(a.port + phone);
    } else {
        a.ip[THIRD_OCTET] = (uint8_t)(1 + phone / PER_SUBNET);
        a.ip[THIRD_OCTET + 1] = (uint8_t)(1 + phone % PER_SUBNET);
    }
    return a;
}

int sl_phone_of_address(const struct sl_phone_addresses *p, const struct sl_addr *a, uint32_t n_phones)
{
    int phone = p->by_port ? a->port - p->first.port
                           : (a->ip[THIRD_OCTET] - 1) * PER_SUBNET + a->ip[THIRD_OCTET + 1] - 1;
    struct sl_addr expected;

    if (phone < 0 || (uint32_t)phone >= n_phones)
        return -1;
    expected = sl_phone_address(p, (uint32_t)phone);
    return a->port == expected.port && memcmp(a->ip, expected.ip, sizeof(a->ip)) == 0 ? phone : -1;
}

void sl_phone_address_away(struct sl_addr *a)
{
    a->ip[SECOND_OCTET] ^= 1;
}

void sl_phone_address_home(const struct sl_phone_addresses *p, struct sl_addr *a)
{
    if (!p->by_port && (a->ip[SECOND_OCTET] ^ 1) == p->first.ip[SECOND_OCTET])
        a->ip[SECOND_OCTET] ^= 1;
}
