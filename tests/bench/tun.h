/* Two network namespaces, each with a tun device, in one process: what the kernel of either sends through its
 * device is read here as IP packets. A namespace belongs to a thread; a socket keeps the one that it was made
 * in. Everything is gone with the process. Takes CAP_NET_ADMIN, or user namespaces. */
#pragma once

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

/* Where the process may not make network namespaces: moves it into a user namespace where it may. Before any
 * thread is started. 0, -EPERM and the like; err says what is missing in one line. */
int bench_tun_prepare(char *err, size_t cap);
/* Moves the calling thread into a new network namespace with a tun device "sl0", up, with address 10.99.0.1
 * (index 0) or .2, and returns its file descriptor, non-blocking, for whole IP packets; -errno and err. */
int bench_tun_open(unsigned index, unsigned mtu, char *err, size_t cap);
struct sockaddr_in bench_tun_address(unsigned index, uint16_t port);
