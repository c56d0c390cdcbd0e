/* A file of messages as phones sent them: units of the tensor in the codec, then the target ids, in the
 * clear. Written by a run with real phones (sim.record), read by sim.compute: replay. Little-endian;
 * docs/device-sim.md has the table.
 *
 *   header 80: "SLUICERC", version, codec, d_model, vocab, layers, 0, model hash, entries, check
 *   entry  64: "RCEN", rows, cut, n_seqs, phone, 0, step, class, tensor units, target units, check; then the
 * units
 *
 * A check is FNV-1a over the 64-bit words of what it covers, rotated: against torn and damaged files, not
 * against forgers. The number of entries is written as the file is closed; until then it is all ones, and a
 * reader refuses it. */
#pragma once

#include "device-sim/replay/replay.h"

enum {
    SL_RECORDING_VERSION = 1,
    SL_RECORDING_HEADER = 80,
    SL_RECORDING_ENTRY = 64,
    SL_RECORDING_CLASS = 16,
    SL_RECORDING_MIB = 256, /* what a recorder stops at */
};

struct sl_recording_entry {
    uint32_t rows, cut, n_seqs, phone;
    uint64_t step;
    char device_class[SL_RECORDING_CLASS + 1]; /* cut off where it is longer */
    uint32_t tensor_units, target_units;
    const uint8_t *units;
};

/* The check so far, and n more bytes, a multiple of 8; it begins with the basis (FNV-1a's). */
#define SL_RECORDING_BASIS UINT64_C(0xCBF29CE484222325)
uint64_t sl_recording_check(uint64_t so_far, const uint8_t *, size_t n);

/* ---- reading: bytes of a whole file that stay where they are ---- */
struct sl_recording {
    struct sl_replay_model model;
    uint64_t n;
};
/* 0, or -EINVAL with what is wrong in a few words (static text). */
int sl_recording_header(const uint8_t *file, size_t len, struct sl_recording *, const char **wrong);
/* The entry at *at, and *at moves behind it. 1: there was one; 0: the file ends there; -EINVAL. */
int sl_recording_next(const struct sl_recording *, const uint8_t *file, size_t len, size_t *at,
    struct sl_recording_entry *, const char **wrong);

/* ---- writing: one thread at a time ---- */
struct sl_recorder;
/* max_mib 0: the default. err: one line. */
int sl_recorder_open(const char *file, const struct sl_replay_model *, uint32_t max_mib,
    struct sl_recorder **, char *err, size_t err_cap);
/* 0; -ENOSPC: the bound is reached and the entry left out; or the disk's error, once. */
int sl_recorder_add(struct sl_recorder *, const struct sl_recording_entry *);
/* Completes the file and frees the recorder. *kept, *left_out: entries. err: one line. */
int sl_recorder_close(struct sl_recorder *, uint64_t *kept, uint64_t *left_out, char *err, size_t err_cap);
