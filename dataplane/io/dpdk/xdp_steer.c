#include "dataplane/io/dpdk/xdp_steer.h"

#include "dataplane/io/dpdk/headers.h"

#include <arpa/inet.h>
#include <stddef.h>

enum { R0, R1, R2, R3, R4, R5, R6 };
enum { DATA = R2, END = R3, QUEUE = R4, VALUE = R5, BOUND = R6 };
enum {
    ETHERTYPE_AT = 12,
    VLAN_BYTES = 4,
    IPV6_BYTES = 40,
    IP_PROTOCOL_AT = 9,
    IP_OFFSET_AT = 6,
    IP6_NEXT_AT = 6
};
enum {
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_VLAN = 0x8100,
    ETHERTYPE_IPV6 = 0x86dd,
    UDP = 17,
    OFFSET_MASK = 0x1fff
};

/* Jumps to the two labels are patched once these are known. */
enum { TO_OTHER = 0x7f01, TO_UDP = 0x7f02 };

struct assembly {
    struct bpf_insn *at;
    unsigned n;
};

static void emit(struct assembly *a, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
    a->at[a->n++] =
        (struct bpf_insn){.code = code, .dst_reg = dst & 15, .src_reg = src & 15, .off = off, .imm = imm};
}

static void load(struct assembly *a, uint8_t size, uint8_t dst, uint8_t src, int off)
{
    emit(a, BPF_LDX | BPF_MEM | size, dst, src, (int16_t)off, 0);
}

static void add(struct assembly *a, uint8_t dst, int32_t n)
{
    emit(a, BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, n);
}

static void jump_if(struct assembly *a, uint8_t condition, int32_t value, int16_t to)
{
    emit(a, BPF_JMP | condition | BPF_K, VALUE, 0, to, value);
}

/* The first n bytes from DATA on are there, or the packet is not for us. The verifier asks for it. */
static void need(struct assembly *a, int32_t n)
{
    emit(a, BPF_ALU64 | BPF_MOV | BPF_X, BOUND, DATA, 0, 0);
    add(a, BOUND, n);
    emit(a, BPF_JMP | BPF_JGT | BPF_X, BOUND, END, TO_OTHER, 0);
}

/* With one tag, DATA is moved so that the inner type lies where it does without. */
static void ethernet(struct assembly *a)
{
    need(a, SL_ETH_BYTES);
    load(a, BPF_H, VALUE, DATA, ETHERTYPE_AT);
    jump_if(a, BPF_JNE, htons(ETHERTYPE_VLAN), 1 + 3 + 1);
    add(a, DATA, VLAN_BYTES);
    need(a, SL_ETH_BYTES);
    load(a, BPF_H, VALUE, DATA, ETHERTYPE_AT);
}

/* A later fragment has no ports: the kernel may have it. */
static void ipv4(struct assembly *a)
{
    need(a, SL_ETH_BYTES + SL_IPV4_BYTES);
    load(a, BPF_B, VALUE, DATA, SL_ETH_BYTES + IP_PROTOCOL_AT);
    jump_if(a, BPF_JNE, UDP, TO_OTHER);
    load(a, BPF_H, VALUE, DATA, SL_ETH_BYTES + IP_OFFSET_AT);
    jump_if(a, BPF_JSET, htons(OFFSET_MASK), TO_OTHER);
    load(a, BPF_B, VALUE, DATA, SL_ETH_BYTES);
    emit(a, BPF_ALU64 | BPF_AND | BPF_K, VALUE, 0, 0, 15);
    emit(a, BPF_ALU64 | BPF_LSH | BPF_K, VALUE, 0, 0, 2);
    add(a, DATA, SL_ETH_BYTES);
    emit(a, BPF_ALU64 | BPF_ADD | BPF_X, DATA, VALUE, 0, 0);
    emit(a, BPF_JMP | BPF_JA, 0, 0, TO_UDP, 0);
}

static void ipv6(struct assembly *a)
{
    need(a, SL_ETH_BYTES + IPV6_BYTES);
    load(a, BPF_B, VALUE, DATA, SL_ETH_BYTES + IP6_NEXT_AT);
    jump_if(a, BPF_JNE, UDP, TO_OTHER);
    add(a, DATA, SL_ETH_BYTES + IPV6_BYTES);
}

static void udp(
    struct assembly *a, uint16_t first_port, uint16_t n_ports, enum xdp_action no_socket, unsigned *map_at)
{
    need(a, SL_UDP_BYTES);
    load(a, BPF_H, VALUE, DATA, 2);
    emit(a, BPF_ALU | BPF_END | BPF_TO_BE, VALUE, 0, 0, 16);
    add(a, VALUE, -(int32_t)first_port); /* a lower port becomes a huge number */
    jump_if(a, BPF_JGE, n_ports, TO_OTHER);
    *map_at = a->n;
    emit(a, BPF_LD | BPF_IMM | BPF_DW, R1, 0, 0, 0);
    emit(a, 0, 0, 0, 0, 0);
    emit(a, BPF_ALU64 | BPF_MOV | BPF_X, R2, QUEUE, 0, 0);
    emit(a, BPF_ALU64 | BPF_MOV | BPF_K, R3, 0, 0, (int32_t)no_socket);
    emit(a, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map);
    emit(a, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

static void patch(struct assembly *a, int16_t label, unsigned to)
{
    for (unsigned i = 0; i < a->n; i++) {
        if (BPF_CLASS(a->at[i].code) == BPF_JMP && a->at[i].off == label)
            a->at[i].off = (int16_t)(to - i - 1);
    }
}

unsigned sl_xdp_steer(struct bpf_insn out[SL_XDP_STEER_MAX], uint16_t first_port, uint16_t n_ports,
    enum xdp_action other, enum xdp_action no_socket, unsigned *map_at)
{
    struct assembly a = {.at = out};
    load(&a, BPF_W, QUEUE, R1, offsetof(struct xdp_md, rx_queue_index));
    load(&a, BPF_W, DATA, R1, offsetof(struct xdp_md, data));
    load(&a, BPF_W, END, R1, offsetof(struct xdp_md, data_end));
    ethernet(&a);
    unsigned to_ipv6 = a.n;
    jump_if(&a, BPF_JEQ, htons(ETHERTYPE_IPV6), 0);
    jump_if(&a, BPF_JNE, htons(ETHERTYPE_IPV4), TO_OTHER);
    ipv4(&a);
    a.at[to_ipv6].off = (int16_t)(a.n - to_ipv6 - 1);
    ipv6(&a);
    patch(&a, TO_UDP, a.n);
    udp(&a, first_port, n_ports, no_socket, map_at);
    patch(&a, TO_OTHER, a.n);
    emit(&a, BPF_ALU64 | BPF_MOV | BPF_K, R0, 0, 0, (int32_t)other);
    emit(&a, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    return a.n;
}
