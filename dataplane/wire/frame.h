/* Frames: the plaintext of FRAMES packets. Big-endian, fixed layouts; docs/protocol.md draws each. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    SL_SEQS_MAX = 64,     /* sequences in one message (rules L1): the length table of a REQUEST fits every MTU */
    SL_ACK_RANGES_MAX = 32,
};

enum sl_frame_type {
    SL_FRAME_PADDING = 0x00,
    SL_FRAME_PING = 0x01,
    SL_FRAME_ACK = 0x02,
    SL_FRAME_REQUEST = 0x03,   /* device -> edge: room for a step's message (rules T2) */
    SL_FRAME_GRANT = 0x04,     /* edge -> device */
    SL_FRAME_RESULT = 0x05,    /* edge -> device: what became of a message; the gradient's metadata */
    SL_FRAME_STEP_LOST = 0x06, /* edge -> device: this step must be done again, or is given up */
    SL_FRAME_PATH_CHALLENGE = 0x07, /* reserved with its layout (rules T9); answered, not yet sent */
    SL_FRAME_PATH_RESPONSE = 0x08,
};

enum sl_request_kind { SL_REQUEST_TRAIN = 0, SL_REQUEST_EVAL = 1 };
/* Shape of a message: the sequences, each with its rows (predicted tokens). rows = sum of len. */
struct sl_request {
    uint64_t step;
    uint8_t kind;
    uint8_t cut; /* after how many layers the tensor was taken; 0: not said (or more than 255) */
    uint32_t ready_in_ms;
    uint16_t n_seqs;
    uint16_t len[SL_SEQS_MAX];
};
struct sl_grant {
    uint32_t index;      /* of the session, from 1 */
    uint64_t step;       /* the REQUEST it answers */
    uint32_t cumulative; /* grants given in this session so far, this one included: makes repeats harmless */
    uint32_t expiry_ms;
};
enum sl_result_status { SL_RESULT_GRADIENT = 0, SL_RESULT_EVAL = 1, SL_RESULT_REFUSED = 2, SL_RESULT_SKIPPED = 3 };
enum { SL_RESULT_BOUNDARY = 1 }; /* flag: this step ends an aggregation round: push your adapter after it (rules L4) */
struct sl_result {
    uint32_t grant;
    uint64_t step, global_step; /* rules L2: the learning rate follows global_step */
    uint8_t status, flags;      /* enum sl_result_status; GRADIENT: the gradient's units follow under the same grant */
    uint32_t tokens;
    double nll; /* sum over the message's predicted tokens, nats */
};
enum sl_lost_reason { SL_LOST_EXPIRED = 1, SL_LOST_PARK_FULL = 2, SL_LOST_REFUSED_SHAPE = 3, SL_LOST_CONTENT = 4, SL_LOST_ROLLBACK = 5,
    SL_LOST_STALE = 6 /* its device is too many versions of the adapter behind (rules L8) */ };
struct sl_step_lost {
    uint32_t grant; /* 0: the step never had one */
    uint64_t step;
    uint8_t reason;
};
struct sl_ack_range {
    uint64_t first, last; /* inclusive */
};
struct sl_ack {
    uint32_t delay_us;
    uint16_t n_ranges;
    struct sl_ack_range range[SL_ACK_RANGES_MAX]; /* descending, disjoint, not adjacent */
};
struct sl_frame {
    uint8_t type;
    union {
        struct sl_ack ack;
        struct sl_request request;
        struct sl_grant grant;
        struct sl_result result;
        struct sl_step_lost step_lost;
        uint64_t challenge;
    };
};

/* Appends one frame; returns its length, or 0 where it does not fit cap. */
size_t sl_frame_encode(const struct sl_frame *, uint8_t *out, size_t cap);
/* Reads the next frame at p; returns its length, or 0 where the bytes are not a valid frame (PADDING runs count as one). */
size_t sl_frame_decode(const uint8_t *p, size_t len, struct sl_frame *);
