/* A port on its own: every datagram goes back to where it came from. For test_veth.py.
 *
 *   dpdk_echo RUNDIR DEVICE MTU PORT IPV4 IPV6
 *
 * Says "ready" once the link is up and one line for each change of it after that. At the end of its standard
 * input it prints its counters as JSON. */
#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool input_ended(void)
{
    char bytes[64];
    return read(STDIN_FILENO, bytes, sizeof(bytes)) == 0;
}

static uint8_t own[2][16];

static bool owns(void *ctx, const uint8_t ip[16])
{
    return memcmp(ip, own[0], 16) == 0 || memcmp(ip, own[1], 16) == 0;
}

static void echo(struct sl_queue *q)
{
    struct sl_dgram d[SL_PORT_BURST];
    unsigned n = sl_queue_rx(q, d, SL_PORT_BURST);
    for (unsigned i = 0; i < n; i++) {
        struct sl_addr from = d[i].src;
        d[i].src = d[i].dst;
        d[i].dst = from;
    }
    if (n > 0)
        sl_queue_tx(q, d, n);
    else /* what wakes it is what comes, where the port can */
        sl_queue_sleep(q, q->wakeable ? 200000000 : 50000);
}

static void serve(struct sl_port *p)
{
    int up = -1;
    time_t asked = 0;
    for (;;) {
        echo(sl_port_queue(p, 0));
        if (sl_port_link_up(p) != up) {
            up = sl_port_link_up(p);
            puts(up ? "ready" : "down");
            fflush(stdout);
        }
        if (time(NULL) != asked && input_ended())
            return;
        asked = time(NULL);
    }
}

static void print_stats(struct sl_port *p)
{
    struct sl_port_stats s;
    sl_port_stats(p, &s);
    printf("{\"rx\": %llu, \"tx\": %llu, \"reconnects\": %llu", (unsigned long long)s.rx_packets,
        (unsigned long long)s.tx_packets, (unsigned long long)s.reconnects);
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++)
        printf(", \"%s\": %llu", sl_port_drop_name((enum sl_port_drop)i), (unsigned long long)s.drops[i]);
    puts("}");
}

int main(int argc, char **argv)
{
    char args[1024], err[1024];
    struct sl_port *p;
    if (argc != 7 || inet_pton(AF_INET, argv[5], own[0] + 12) != 1 ||
        inet_pton(AF_INET6, argv[6], own[1]) != 1)
        return 2;
    own[0][10] = own[0][11] = 0xff;
    struct sl_eal_config eal = {.run_dir = argv[1],
        .file_prefix = "echo",
        .cpu = -1,
        .memory_mib = 256,
        .extra = (const char *const[]){"--log-level", "pmd.net.*:debug", NULL}};
    struct sl_dpdk_port_config c = {
        .device = argv[2], .mtu = (uint32_t)atoi(argv[3]), .udp_port = (uint16_t)atoi(argv[4]), .owns = owns};
    memcpy(c.own_ip, own[0], sizeof(c.own_ip));
    if (sl_eal_start(&eal, args, sizeof(args), err, sizeof(err)) != 0 ||
        sl_dpdk_port_open(&c, &p, err, sizeof(err)) != 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    if (sl_queue_enter(sl_port_queue(p, 0), err, sizeof(err)) != 0)
        return 1;
    serve(p);
    sl_queue_leave(sl_port_queue(p, 0));
    print_stats(p);
    fflush(stdout);
    sl_port_close(p);
    sl_eal_stop();
    return 0;
}
