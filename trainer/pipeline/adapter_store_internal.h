/* The inside of the store of personal adapters, for its two files only: adapter_store.c decides what is in
 * memory, adapter_store_disk.c what is at which place of the file, and speaks with the disk. */
#pragma once

#include "trainer/pipeline/adapter_store.h"
#include "trainer/pipeline/mailbox.h"
#include "trainer/pipeline/places.h"

#define NONE UINT32_MAX

enum { WHY_BYTES = 256 };

enum role { ROLE_CURRENT, ROLE_BOUNDARY, ROLE_PENDING, ROLE_DURABLE, ROLES };

struct entry {
    char id[SL_ADAPTER_RECORD_ID_BYTES];
    enum sl_adapter_state state;
    bool known, pinned, queued, expected; /* expected: hinted, and not wanted since */
    bool dirty;                           /* what is in memory is at no place */
    bool saving;                          /* a boundary is being written from its frame */
    bool discard;                         /* what is under way is not wanted any more: rolled back */
    bool fetching;
    uint32_t fetch_owed; /* bits of what for */
    uint32_t place[ROLES], saving_to;
    uint32_t frame;
    uint64_t version, step;             /* of the newest boundary, written or about to be; of its contents */
    uint64_t saved_version, saved_step; /* of the one at ROLE_BOUNDARY */
    uint64_t pushed_step;               /* what `step` becomes with the push that is owed */
    float *front;
    uint32_t front_cut;
    uint32_t newer, older; /* in the list of those that may be evicted */
    bool listed;
};

struct completion {
    enum sl_disk_kind kind;
    uint32_t device, place, frame;
    bool boundary;
    int status;
    uint64_t asked_ns, done_ns;
    struct sl_adapter_record_head head;
    char why[WHY_BYTES];
};

struct sl_adapter_store {
    struct sl_adapter_store_config config;
    struct sl_adapter_record_shape shape;
    uint32_t n_layers;
    struct entry *entries;           /* [max_devices] */
    struct sl_adapter_frame *frames; /* [resident] */
    uint32_t *unused, n_unused;
    uint32_t newest, oldest;
    uint32_t *queue, queue_head, n_queue; /* [max_devices], in a ring */
    uint32_t n_known, n_expected, n_pushes;
    struct sl_places places;
    struct sl_mailbox *requests, *completions;
    bool asked, failed;
    char error[WHY_BYTES];
    struct sl_adapter_store_stats stats;
};

/* adapter_store.c */
void sl_store_fail(
    struct sl_adapter_store *, const char *what); /* the first failure is the one that is told */
void sl_store_enqueue(struct sl_adapter_store *, uint32_t device);
void sl_store_leave_frame(struct sl_adapter_store *, struct entry *);
/* Its adapter is in its frame, and nobody else works on it. */
void sl_store_settle(struct sl_adapter_store *, uint32_t device, uint64_t now);
void sl_store_serve(struct sl_adapter_store *, uint64_t now);

/* adapter_store_disk.c */
void sl_store_set_place(struct sl_adapter_store *, struct entry *, enum role, uint32_t place);
void sl_store_load(struct sl_adapter_store *, uint32_t device, uint64_t now);
bool sl_store_save(struct sl_adapter_store *, uint32_t device, bool boundary, uint64_t now);
