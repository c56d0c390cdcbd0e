/* The thread that computes front halves, one after another, the one whose modelled time ends first before the
 * others. The control thread posts phones whose job is set (sl_phone_compute) and takes them back; ownership
 * of the front half goes along with the number. */
#pragma once

#include "device-sim/device/phone.h"
#include "device-sim/replay/recording.h"

struct sl_compute;
/* recorder: gets every training message as it was made, on this thread; it outlives it. NULL: none. */
int sl_compute_start(struct sl_phone *phones, uint32_t n, size_t workspace_floats, struct sl_recorder *,
    struct sl_compute **, char *err, size_t err_cap);
void sl_compute_stop(
    struct sl_compute *); /* joins; a job under way is finished, those behind it are not begun */
void sl_compute_post(struct sl_compute *, uint32_t phone);
bool sl_compute_done(struct sl_compute *, uint32_t *phone);
bool sl_compute_any_done(const struct sl_compute *);
/* Without a thread and without arithmetic: a job is done as soon as it is posted, its modelled time follows.
 * What the phones send is whatever their buffers hold. */
int sl_compute_pretend(struct sl_phone *, uint32_t n, struct sl_compute **, char *err, size_t err_cap);
