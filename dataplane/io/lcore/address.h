/* Addresses as people write them: 192.0.2.1:4433, [2001:db8::1]:4433, and without a port. */
#pragma once

#include "dataplane/transport/endpoint.h"

#include <stdbool.h>
#include <stddef.h>

enum { SL_ADDR_TEXT = 64 };

/* -EINVAL: neither. `port` 0 stands for none, so it cannot be written. */
int sl_addr_parse(const char *text, struct sl_addr *);
/* Without the port where it is 0. */
void sl_addr_format(const struct sl_addr *, char *text, size_t cap);

bool sl_addr_is_mapped(const struct sl_addr *); /* IPv4: ::ffff:a.b.c.d, RFC 4291 section 2.5.5.2 */
bool sl_addr_is_unspecified(const struct sl_addr *);
bool sl_addr_is_loopback(const struct sl_addr *);
