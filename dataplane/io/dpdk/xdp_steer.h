/* The XDP program of an AF_XDP port: UDP datagrams for [first_port, first_port + n_ports), over IPv4 or IPv6,
 * with or without one VLAN tag, go to the socket of the queue they came by; everything else, ARP, ping and
 * TCP included, goes on to the kernel. So does what comes by a queue without a socket.
 *
 * It is assembled here, and handed to DPDK's driver as an ELF object in memory: no compiler and no file is
 * needed. */
#pragma once

#include <linux/bpf.h>
#include <stdint.h>

enum { SL_XDP_STEER_MAX = 64 /* instructions */, SL_XDP_QUEUES = 64 };
#define SL_XDP_STEER_NAME "sl_steer" /* as the kernel lists it */

/* The program's length. The map's place is the instruction at *map_at (two long: its descriptor goes to imm,
 * with src_reg BPF_PSEUDO_MAP_FD). The actions for what is not ours, and for what is but has no socket, are
 * XDP_PASS but in tests. */
unsigned sl_xdp_steer(struct bpf_insn out[SL_XDP_STEER_MAX], uint16_t first_port, uint16_t n_ports,
    enum xdp_action other, enum xdp_action no_socket, unsigned *map_at);
/* A descriptor of an ELF object with the program and its map "xsks_map", as libbpf reads it; or -errno. */
int sl_xdp_steer_object(uint16_t first_port, uint16_t n_ports);
