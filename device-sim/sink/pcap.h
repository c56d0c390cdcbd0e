/* A capture file of UDP over IP: nanoseconds, link type RAW (a packet begins with its IP header), so that
 * IPv4 and IPv6 go without made-up Ethernet addresses (pcap-savefile(5), LINKTYPE_RAW 101). */
#pragma once

#include "dataplane/transport/endpoint.h"

#include <stddef.h>

struct sl_pcap;
int sl_pcap_open(const char *path, struct sl_pcap **, char *err, size_t err_cap);
/* Checksums are computed. What cannot be written is told by sl_pcap_close. */
void sl_pcap_packet(struct sl_pcap *, uint64_t at_ns, const struct sl_addr *src, const struct sl_addr *dst,
    const uint8_t *payload, uint16_t payload_bytes);
int sl_pcap_close(struct sl_pcap *, char *err, size_t err_cap); /* -errno of the first write that failed */
