/* What a port without a kernel below has to do to be found on its link: it answers ARP (RFC 826), neighbour
 * solicitations (RFC 4861) and pings (RFC 792, RFC 4443) for its own addresses, and hears the answers to what
 * it asked itself. Frames are bytes from anybody. */
#pragma once

#include "dataplane/io/dpdk/resolve.h"

enum sl_answer {
    SL_ANSWER_NOT,       /* nothing that asks for an answer, or not ours: an ordinary drop */
    SL_ANSWER_HEARD,     /* an answer to a question of ours, or nothing to be said */
    SL_ANSWER_NEIGHBOUR, /* the frame has become the answer to ARP or neighbour discovery */
    SL_ANSWER_ECHO,      /* the frame has become the answer to a ping */
};

struct sl_self {
    uint8_t mac[6];
    /* Whether an address is one of the port's: its queues' threads ask. */
    bool (*owns)(void *ctx, const uint8_t ip[16]);
    void *ctx;
};

enum { SL_ANSWER_ROOM = 8 }; /* bytes that a frame may grow by */

/* Looks at the frame [frame, frame + *len), which has room for SL_ANSWER_ROOM more, and turns it into the
 * answer in place. */
enum sl_answer sl_answer(const struct sl_self *, struct sl_routes *, uint8_t *frame, uint32_t *len);
/* Writes the question for ip, in the name of `own` (of the same kind); its length, at most SL_ASK_BYTES. */
enum { SL_ASK_BYTES = 86 };
uint32_t sl_ask(
    uint8_t frame[SL_ASK_BYTES], const uint8_t mac[6], const uint8_t own[16], const uint8_t ip[16]);
