#include "dataplane/io/uring/loop_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int bad(const char *text, char *err, size_t err_cap)
{
    snprintf(err, err_cap,
        "\"%.64s\" is not a numeric address with a port, such as 127.0.0.1:7443 or [::1]:7443", text);
    return -EINVAL;
}

/* Decimal digits only, to 65535. */
static bool parse_port(const char *text, uint16_t *port)
{
    unsigned long value = 0;

    if (!*text || strlen(text) > 5)
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return false;
        value = value * 10 + (unsigned long)(*text - '0');
    }
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

int sl_loop_parse_address(
    const char *text, struct sockaddr_storage *out, socklen_t *len, char *err, size_t err_cap)
{
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    size_t n = colon ? (size_t)(colon - text) : 0;
    uint16_t port;

    memset(out, 0, sizeof(*out));
    if (!n || n >= sizeof(host) || !parse_port(colon + 1, &port))
        return bad(text, err, err_cap);
    memcpy(host, text, n);
    host[n] = 0;
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *len = sizeof(*v6);
        return inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1 ? 0 : bad(text, err, err_cap);
    }
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    *len = sizeof(*v4);
    return inet_pton(AF_INET, host, &v4->sin_addr) == 1 ? 0 : bad(text, err, err_cap);
}

void sl_loop_format_address(const struct sockaddr_storage *a, char *out, size_t cap)
{
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;
    char host[INET6_ADDRSTRLEN] = "?";

    if (a->ss_family == AF_INET6)
        snprintf(out, cap, "[%s]:%u", inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)),
            ntohs(v6->sin6_port));
    else
        snprintf(
            out, cap, "%s:%u", inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host)), ntohs(v4->sin_port));
}
