/* Between the files of the phone: joining and adapters on one side, steps on the other. */
#pragma once

#include "device-sim/device/phone.h"

/* phone_join.c */
bool sl_phone_welcomed(struct sl_phone *, const Sluice__Welcome *); /* false: the phone has ended */
void sl_phone_pull(struct sl_phone *, uint64_t now_ns);
void sl_phone_push(struct sl_phone *, uint64_t now_ns);
void sl_phone_kept(struct sl_phone *, uint64_t version, uint64_t now_ns); /* what it pushed is that version */
bool sl_phone_install_incoming(struct sl_phone *, uint64_t now_ns); /* whether there was one to install now */
void sl_phone_fail(struct sl_phone *, const char *text);            /* ENDED, and leave */

/* phone_step.c */
void sl_phone_proceed(struct sl_phone *, uint64_t now_ns); /* in IDLE: whatever the phase asks for */
void sl_phone_abandon(struct sl_phone *); /* the step under way, without a word to the edge */
