#include "dataplane/io/lcore/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, zero[16], one[16] = {[15] = 1};

bool sl_addr_is_mapped(const struct sl_addr *a)
{
    return memcmp(a->ip, mapped, sizeof(mapped)) == 0;
}

bool sl_addr_is_unspecified(const struct sl_addr *a)
{
    return memcmp(a->ip, zero, sizeof(zero)) == 0 ||
           (sl_addr_is_mapped(a) && memcmp(a->ip + sizeof(mapped), zero, 4) == 0);
}

bool sl_addr_is_loopback(const struct sl_addr *a)
{
    return memcmp(a->ip, one, sizeof(one)) == 0 || (sl_addr_is_mapped(a) && a->ip[12] == 127);
}

static int parse_port(const char *text, uint16_t *port)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || n == 0 || n > 65535)
        return -EINVAL;
    *port = (uint16_t)n;
    return 0;
}

/* The part before the port, without its brackets; `rest` is what follows. */
static int cut_host(const char *text, char *host, size_t cap, bool *ipv6, const char **rest)
{
    const char *end;

    *ipv6 = text[0] == '[';
    text += *ipv6;
    end = *ipv6 ? strchr(text, ']') : text + strcspn(text, ":");
    if (end == NULL || (size_t)(end - text) >= cap)
        return -EINVAL;
    memcpy(host, text, (size_t)(end - text));
    host[end - text] = '\0';
    *rest = end + *ipv6;
    return 0;
}

int sl_addr_parse(const char *text, struct sl_addr *out)
{
    char host[INET6_ADDRSTRLEN];
    const char *rest;
    bool ipv6;

    memset(out, 0, sizeof(*out));
    if (cut_host(text, host, sizeof(host), &ipv6, &rest) != 0)
        return -EINVAL;
    if (!ipv6)
        memcpy(out->ip, mapped, sizeof(mapped));
    if (inet_pton(ipv6 ? AF_INET6 : AF_INET, host, out->ip + (ipv6 ? 0 : sizeof(mapped))) != 1)
        return -EINVAL;
    if (rest[0] == '\0')
        return 0;
    return rest[0] == ':' ? parse_port(rest + 1, &out->port) : -EINVAL;
}

void sl_addr_format(const struct sl_addr *a, char *text, size_t cap)
{
    char host[INET6_ADDRSTRLEN] = "?", port[8] = "";
    bool ipv4 = sl_addr_is_mapped(a);

    if (a->port != 0)
        snprintf(port, sizeof(port), ":%u", a->port);
    inet_ntop(ipv4 ? AF_INET : AF_INET6, a->ip + (ipv4 ? sizeof(mapped) : 0), host, sizeof(host));
    snprintf(text, cap, ipv4 ? "%s%s" : "[%s]%s", host, port);
}
