/* Personal adapters of many devices, of which a bounded number is in memory: the edge's half of each, blocks
 * [first, L) with its optimiser's moments. Least recently used ones go to disk and come back.
 *
 *              want, hint            loaded                 evicted, changed        (written meanwhile)
 *      AWAY ------------> COMING ------------> RESIDENT -----------------> AWAY
 *                (a new device's adapter is made)      evicted, unchanged
 *
 * A device's adapter is pinned from `want` to `unwant` (its message waits or is in a batch), and while it is
 * being written at a boundary. What is pinned does not leave, and what is being written does not change.
 *
 * This is the cache's logic and memory, without I/O: one thread (the trainer's) calls everything but
 * sl_adapter_store_take and _done, which another one (control's) calls to carry out what the disk has to do.
 * Between take and done an operation's frame belongs to that thread. The two meet on SPSC mailboxes.
 *
 * The file is a heap of places of one record each. A checkpoint must find the records that it names as they
 * were (rules T12): so a place is written again only when neither the last checkpoint on disk, nor the one
 * being written, nor the device's last boundary uses it. Never more than four places a device, in the usual
 * case two. */
#pragma once

#include "trainer/pipeline/adapter_record.h"

enum sl_adapter_state { SL_ADAPTER_AWAY, SL_ADAPTER_COMING, SL_ADAPTER_RESIDENT };

#define SL_PLACE_NONE UINT32_MAX

struct sl_adapter_store_config {
    const struct sl_model_config *model;
    struct sl_lora_config lora;
    struct sl_optim_config optim;
    uint32_t first, max_cut;
    uint32_t max_devices, resident;
    const float *initial; /* [L, block]: what every device begins with; outlives the store */
    /* A device that is wanted can be used from now on. Called from within the calls below. */
    void (*usable)(void *app, uint32_t device, uint64_t since_ns);
    void *app;
};

/* The memory of one resident adapter. */
struct sl_adapter_frame {
    struct sl_adapter *adapter; /* blocks [first, L) */
    struct sl_moments *moments; /* [L - first] */
    uint32_t device;
    uint32_t saves; /* the trainer's: asked for and not done */
    /* The disk's: a save whose contents are still in here, and the load that waits for it. */
    bool unsaved;
    struct sl_disk_op *waiting;
};

enum sl_disk_kind {
    SL_DISK_LOAD,  /* the edge part of `place` into `frame`; SL_PLACE_NONE: the initial adapter */
    SL_DISK_SAVE,  /* `frame`, and `front` where not NULL, to `place` */
    SL_DISK_FETCH, /* what `place` holds, for `what`: not the store's business. SL_PLACE_NONE: the device has
                      the initial adapter */
};
/* Operations on one place are carried out in the order in which they were asked for. Those on one frame, too,
 * but a load need only wait until the save before it has taken the contents out. */
struct sl_disk_op {
    enum sl_disk_kind kind;
    bool boundary; /* of SAVE */
    uint32_t device, place;
    struct sl_adapter_frame *frame;
    const float *front; /* [head.cut, block] */
    struct sl_adapter_record_head head;
    uint32_t what;              /* of FETCH: the bits that were asked for meanwhile */
    uint64_t asked_ns, done_ns; /* done: set by who carried it out */
    int status;                 /* of `done` */
};

struct sl_adapter_store_stats {
    uint64_t hits, misses;            /* wants that found it resident, and that did not */
    uint64_t made;                    /* misses of devices that nothing is stored of */
    uint64_t loads, evictions, saves; /* evictions: those that were written; saves: of boundaries */
    uint64_t hints, hints_dropped;
    uint64_t load_ns, load_ns_max; /* from asking for the load to its end */
};

/* Which record holds a device's last boundary, for the checkpoint. */
struct sl_adapter_boundary {
    uint32_t place;
    uint64_t version, step;
};

struct sl_adapter_store;
/* -EINVAL, -ENOMEM. */
int sl_adapter_store_create(const struct sl_adapter_store_config *, struct sl_adapter_store **);
void sl_adapter_store_free(struct sl_adapter_store *);
void sl_adapter_store_shape(const struct sl_adapter_store *, struct sl_adapter_record_shape *);
/* Bytes of memory of one resident adapter. */
size_t sl_adapter_store_frame_bytes(const struct sl_adapter_store_config *);

/* The device of that number, by certificate; before anything else of it. */
void sl_adapter_store_know(struct sl_adapter_store *, uint32_t device, const char *id);
/* What a checkpoint says of it. Before any other device is worked with. -EINVAL: the place is another's. */
int sl_adapter_store_restore(
    struct sl_adapter_store *, uint32_t device, const char *id, const struct sl_adapter_boundary *);

/* Its message waits: brings the adapter and pins it; `usable` says when it is there, now or later. */
void sl_adapter_store_want(struct sl_adapter_store *, uint32_t device, uint64_t now_ns);
void sl_adapter_store_unwant(struct sl_adapter_store *, uint32_t device);
bool sl_adapter_store_usable(const struct sl_adapter_store *, uint32_t device);
/* It may soon be wanted; not pinned, and not at the cost of what others wait for. */
void sl_adapter_store_hint(struct sl_adapter_store *, uint32_t device, uint64_t now_ns);
/* Of a usable device that is pinned. */
struct sl_adapter_frame *sl_adapter_store_frame(struct sl_adapter_store *, uint32_t device);
void sl_adapter_store_stepped(struct sl_adapter_store *, uint32_t device, uint64_t step);

/* The device's boundary: what the edge has of it now and `front` [cut, block] (malloc'ed, taken) become its
 * next version, which is returned, and are written. 0: the one before is still being written (the front is
 * freed). */
uint64_t sl_adapter_store_push(
    struct sl_adapter_store *, uint32_t device, float *front, uint32_t cut, uint64_t step, uint64_t now_ns);
uint32_t sl_adapter_store_pushes(const struct sl_adapter_store *);                 /* not yet written */
const char *sl_adapter_store_id(const struct sl_adapter_store *, uint32_t device); /* [65], zeros behind it */
uint64_t sl_adapter_store_version(const struct sl_adapter_store *, uint32_t device);
/* Forgets what the device has trained since its last boundary. */
void sl_adapter_store_roll_back(struct sl_adapter_store *, uint32_t device);
/* A FETCH of its last boundary, after that is written. */
void sl_adapter_store_fetch(struct sl_adapter_store *, uint32_t device, uint32_t what, uint64_t now_ns);

/* Checkpoints: begin freezes the boundaries of all devices, of which `boundary` then tells; end says that the
 * checkpoint is on disk, or that it could not be written. One at a time. */
void sl_adapter_store_checkpoint_begin(struct sl_adapter_store *);
void sl_adapter_store_checkpoint_end(struct sl_adapter_store *, bool on_disk);
/* False: nothing was ever saved of it. */
bool sl_adapter_store_boundary(
    const struct sl_adapter_store *, uint32_t device, struct sl_adapter_boundary *);

/* Takes what the disk has done; false: nothing. */
bool sl_adapter_store_turn(struct sl_adapter_store *, uint64_t now_ns);
/* One line once the disk has failed, which is the run's end; NULL: it has not. */
const char *sl_adapter_store_error(const struct sl_adapter_store *);
bool sl_adapter_store_asked(
    struct sl_adapter_store *); /* something was, since the last call: wake the disk */
void sl_adapter_store_stats(const struct sl_adapter_store *, struct sl_adapter_store_stats *);
enum sl_adapter_state sl_adapter_store_state(const struct sl_adapter_store *, uint32_t device);
uint32_t sl_adapter_store_places(const struct sl_adapter_store *); /* records that the file has room for */

/* What every device begins with, into a frame; any thread. */
void sl_adapter_store_make_initial(const struct sl_adapter_store *, struct sl_adapter_frame *);

/* The other thread. take: NULL: nothing to do. done: the operation's status; `why` where it failed. */
struct sl_disk_op *sl_adapter_store_take(struct sl_adapter_store *);
void sl_adapter_store_done(struct sl_adapter_store *, struct sl_disk_op *, int status, const char *why);
