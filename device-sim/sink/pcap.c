#include "device-sim/sink/pcap.h"

#include "dataplane/io/lcore/address.h"
#include "dataplane/wire/bytes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAGIC_NS = 0xa1b23c4d,
    LINKTYPE_RAW = 101,
    SNAP_BYTES = 65535,
    IPV4_BYTES = 20, /* RFC 791 */
    IPV6_BYTES = 40, /* RFC 8200 */
    UDP_BYTES = 8,   /* RFC 768 */
    PROTOCOL_UDP = 17,
    HOPS = 64,
    MAPPED_AT = 12, /* of an IPv4 address in struct sl_addr */
    BUFFER_BYTES = 1 << 20,
};

struct sl_pcap {
    FILE *file;
    char *path, *buffer;
    int error;
};

static void put(struct sl_pcap *p, const void *data, size_t n)
{
    if (!p->error && fwrite(data, 1, n, p->file) != n)
        p->error = errno ? errno : EIO;
}

int sl_pcap_open(const char *path, struct sl_pcap **out, char *err, size_t err_cap)
{
    /* In this host's byte order, as the format has it. */
    const struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snap, link;
    } head = {MAGIC_NS, 2, 4, 0, 0, SNAP_BYTES, LINKTYPE_RAW};
    struct sl_pcap *p = calloc(1, sizeof(*p));

    if (p) {
        p->path = strdup(path);
        p->buffer = malloc(BUFFER_BYTES);
    }
    if (!p || !p->path || !p->buffer) {
        snprintf(err, err_cap, "out of memory");
        if (p) {
            free(p->path);
            free(p->buffer);
        }
        free(p);
        return -ENOMEM;
    }
    p->file = fopen(path, "wb");
    if (!p->file) {
        int rc = -errno;
        snprintf(err, err_cap, "%s: cannot be written: %s", path, strerror(-rc));
        free(p->path);
        free(p->buffer);
        free(p);
        return rc;
    }
    setvbuf(p->file, p->buffer, _IOFBF, BUFFER_BYTES);
    put(p, &head, sizeof(head));
    *out = p;
    return 0;
}

/* RFC 1071, without the last complement; `n` may be odd at the end of a packet alone. */
static uint64_t sum(uint64_t s, const uint8_t *data, size_t n)
{
    for (size_t i = 0; i + 1 < n; i += 2)
        s += sl_get16(data + i);
    return n % 2 ? s + ((uint64_t)data[n - 1] << 8) : s;
}

static uint16_t folded(uint64_t s)
{
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)~s;
}

static size_t ip_header(uint8_t *h, const struct sl_addr *src, const struct sl_addr *dst, uint16_t udp_bytes)
{
    if (sl_addr_is_mapped(src)) {
        memset(h, 0, IPV4_BYTES);
        h[0] = 0x45;
        sl_put16(h + 2, (uint16_t)(IPV4_BYTES + udp_bytes));
        sl_put16(h + 6, 0x4000); /* DF, as rules T9 has it */
        h[8] = HOPS;
        h[9] = PROTOCOL_UDP;
        memcpy(h + 12, src->ip + MAPPED_AT, 4);
        memcpy(h + 16, dst->ip + MAPPED_AT, 4);
        sl_put16(h + 10, folded(sum(0, h, IPV4_BYTES)));
        return IPV4_BYTES;
    }
    memset(h, 0, IPV6_BYTES);
    h[0] = 0x60;
    sl_put16(h + 4, udp_bytes);
    h[6] = PROTOCOL_UDP;
    h[7] = HOPS;
    memcpy(h + 8, src->ip, sizeof(src->ip));
    memcpy(h + 24, dst->ip, sizeof(dst->ip));
    return IPV6_BYTES;
}

void sl_pcap_packet(struct sl_pcap *p, uint64_t at_ns, const struct sl_addr *src, const struct sl_addr *dst,
    const uint8_t *payload, uint16_t payload_bytes)
{
    uint8_t h[IPV6_BYTES + UDP_BYTES];
    uint16_t udp_bytes = (uint16_t)(UDP_BYTES + payload_bytes), check;
    size_t ip = ip_header(h, src, dst, udp_bytes);
    size_t addresses_at = ip == IPV4_BYTES ? 12 : 8;
    uint32_t bytes = (uint32_t)(ip + udp_bytes);
    const uint32_t record[4] = {
        (uint32_t)(at_ns / 1000000000u), (uint32_t)(at_ns % 1000000000u), bytes, bytes};

    sl_put16(h + ip, src->port);
    sl_put16(h + ip + 2, dst->port);
    sl_put16(h + ip + 4, udp_bytes);
    sl_put16(h + ip + 6, 0);
    /* With the pseudo-header: addresses, protocol, length. */
    check =
        folded(sum(sum(sum(PROTOCOL_UDP + udp_bytes, h + addresses_at, ip - addresses_at), h + ip, UDP_BYTES),
            payload, payload_bytes));
    sl_put16(h + ip + 6, check ? check : 0xffff);
    put(p, record, sizeof(record));
    put(p, h, ip + UDP_BYTES);
    put(p, payload, payload_bytes);
}

int sl_pcap_close(struct sl_pcap *p, char *err, size_t err_cap)
{
    if (fclose(p->file) && !p->error)
        p->error = errno;
    int rc = -p->error;
    if (rc)
        snprintf(err, err_cap, "%s: cannot be written: %s", p->path, strerror(-rc));
    free(p->path);
    free(p->buffer);
    free(p);
    return rc;
}
