#include "device-sim/replay/recording.h"

#include "dataplane/wire/packet.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'S', 'L', 'U', 'I', 'C', 'E', 'R', 'C'}, marker[4] = {'R', 'C', 'E', 'N'};
enum { HEADER_CHECKED = 72, ENTRY_CHECKED = 56, LAYERS_MAX = 4096 };
static const uint64_t unfinished = UINT64_MAX, check_basis = 0xCBF29CE484222325u,
                      check_prime = 0x100000001B3u;

/* Little-endian, as the host (dataplane/wire/bytes.h asserts it). */
static uint32_t get32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static void put32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
    memcpy(p, &v, sizeof(v));
}

uint64_t sl_recording_check(uint64_t h, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        h = (h ^ get64(p + i)) * check_prime;
        h = h << 29 | h >> 35;
    }
    return h;
}

/* ---- reading ---- */

int sl_recording_header(const uint8_t *file, size_t len, struct sl_recording *r, const char **wrong)
{
    *wrong = "not a recording";
    if (len < SL_RECORDING_HEADER || memcmp(file, magic, sizeof(magic)))
        return -EINVAL;
    *wrong = "another version of the format; record again with this release";
    if (get32(file + 8) != SL_RECORDING_VERSION)
        return -EINVAL;
    *wrong = "its header is damaged; record again";
    if (get64(file + HEADER_CHECKED) != sl_recording_check(check_basis, file, HEADER_CHECKED))
        return -EINVAL;
    *r = (struct sl_recording){.model = {.codec = (enum sl_codec)get32(file + 12),
                                   .d_model = get32(file + 16),
                                   .vocab = get32(file + 20),
                                   .n_layers = get32(file + 24)},
        .n = get64(file + 64)};
    memcpy(r->model.hash, file + 32, sizeof(r->model.hash));
    if (get32(file + 12) >= SL_CODEC_COUNT || r->model.d_model == 0 || r->model.vocab == 0 ||
        r->model.n_layers == 0 || r->model.n_layers > LAYERS_MAX)
        return -EINVAL;
    *wrong = "it was not finished; record again, to the end of a run";
    return r->n == unfinished ? -EINVAL : 0;
}

static bool is_sound(const struct sl_recording *r, const struct sl_recording_entry *e)
{
    struct sl_grid g;

    if (e->rows == 0 || e->n_seqs == 0 || e->n_seqs > e->rows || e->cut == 0 || e->cut >= r->model.n_layers ||
        sl_grid_make(&g, e->rows, r->model.d_model, r->model.codec, 1, 1))
        return false;
    return e->tensor_units == g.tensor_units && e->target_units == g.target_units;
}

static bool targets_below(const struct sl_recording_entry *e, uint32_t vocab)
{
    const uint8_t *t = e->units + (size_t)e->tensor_units * SL_UNIT_BYTES;

    for (uint32_t i = 0; i < e->rows; i++)
        if (get32(t + 4 * (size_t)i) >= vocab)
            return false;
    return true;
}

int sl_recording_next(const struct sl_recording *r, const uint8_t *file, size_t len, size_t *at,
    struct sl_recording_entry *e, const char **wrong)
{
    const uint8_t *p = file + *at;

    if (*at == len)
        return 0;
    *wrong = "it ends within an entry; it was cut off";
    if (len - *at < SL_RECORDING_ENTRY)
        return -EINVAL;
    *wrong = "an entry is damaged; record again";
    if (memcmp(p, marker, sizeof(marker)))
        return -EINVAL;
    *e = (struct sl_recording_entry){.rows = get32(p + 4),
        .cut = get32(p + 8),
        .n_seqs = get32(p + 12),
        .phone = get32(p + 16),
        .step = get64(p + 24),
        .tensor_units = get32(p + 48),
        .target_units = get32(p + 52),
        .units = p + SL_RECORDING_ENTRY};
    memcpy(e->device_class, p + 32, SL_RECORDING_CLASS);
    if (!is_sound(r, e))
        return -EINVAL;
    size_t bytes = ((size_t)e->tensor_units + e->target_units) * SL_UNIT_BYTES;
    if (bytes > len - *at - SL_RECORDING_ENTRY) {
        *wrong = "it ends within an entry; it was cut off";
        return -EINVAL;
    }
    if (get64(p + ENTRY_CHECKED) !=
        sl_recording_check(sl_recording_check(check_basis, p, ENTRY_CHECKED), e->units, bytes))
        return -EINVAL;
    *wrong = "a target id in it is not below the vocabulary";
    if (!targets_below(e, r->model.vocab))
        return -EINVAL;
    *at += SL_RECORDING_ENTRY + bytes;
    return 1;
}

/* ---- writing ---- */

struct sl_recorder {
    FILE *file;
    char *name;
    struct sl_replay_model model;
    uint64_t kept, left_out, bytes, most;
    int failed;
};

static void header_bytes(const struct sl_recorder *r, uint64_t n, uint8_t out[SL_RECORDING_HEADER])
{
    memset(out, 0, SL_RECORDING_HEADER);
    memcpy(out, magic, sizeof(magic));
    put32(out + 8, SL_RECORDING_VERSION);
    put32(out + 12, r->model.codec);
    put32(out + 16, r->model.d_model);
    put32(out + 20, r->model.vocab);
    put32(out + 24, r->model.n_layers);
    memcpy(out + 32, r->model.hash, sizeof(r->model.hash));
    put64(out + 64, n);
    put64(out + HEADER_CHECKED, sl_recording_check(check_basis, out, HEADER_CHECKED));
}

static int write_header(struct sl_recorder *r, uint64_t n)
{
    uint8_t header[SL_RECORDING_HEADER];

    header_bytes(r, n, header);
    if (fseek(r->file, 0, SEEK_SET) || fwrite(header, sizeof(header), 1, r->file) != 1)
        return -errno;
    return 0;
}

static void recorder_free(struct sl_recorder *r)
{
    if (r->file)
        fclose(r->file);
    free(r->name);
    free(r);
}

int sl_recorder_open(const char *file, const struct sl_replay_model *m, uint32_t max_mib,
    struct sl_recorder **out, char *err, size_t err_cap)
{
    struct sl_recorder *r = calloc(1, sizeof(*r));
    int rc = -ENOMEM;

    if (r)
        r->name = strdup(file);
    if (r && r->name) {
        r->model = *m;
        r->most = (uint64_t)(max_mib ? max_mib : SL_RECORDING_MIB) << 20;
        r->bytes = SL_RECORDING_HEADER;
        r->file = fopen(file, "wbe");
        rc = r->file ? write_header(r, unfinished) : -errno;
    }
    if (rc) {
        snprintf(err, err_cap, "%s: cannot be recorded to: %s", file, strerror(-rc));
        if (r)
            recorder_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

int sl_recorder_add(struct sl_recorder *r, const struct sl_recording_entry *e)
{
    uint8_t head[SL_RECORDING_ENTRY] = {0};
    size_t bytes = ((size_t)e->tensor_units + e->target_units) * SL_UNIT_BYTES;

    if (r->failed || r->bytes + sizeof(head) + bytes > r->most) {
        r->left_out++;
        return -ENOSPC;
    }
    memcpy(head, marker, sizeof(marker));
    put32(head + 4, e->rows);
    put32(head + 8, e->cut);
    put32(head + 12, e->n_seqs);
    put32(head + 16, e->phone);
    put64(head + 24, e->step);
    memcpy(head + 32, e->device_class, strnlen(e->device_class, SL_RECORDING_CLASS));
    put32(head + 48, e->tensor_units);
    put32(head + 52, e->target_units);
    put64(head + ENTRY_CHECKED,
        sl_recording_check(sl_recording_check(check_basis, head, ENTRY_CHECKED), e->units, bytes));
    if (fwrite(head, sizeof(head), 1, r->file) != 1 || fwrite(e->units, bytes, 1, r->file) != 1) {
        r->failed = errno ? -errno : -EIO;
        return r->failed;
    }
    r->bytes += sizeof(head) + bytes;
    r->kept++;
    return 0;
}

int sl_recorder_close(struct sl_recorder *r, uint64_t *kept, uint64_t *left_out, char *err, size_t err_cap)
{
    int rc = r->failed ? r->failed : write_header(r, r->kept);

    *kept = r->kept;
    *left_out = r->left_out;
    if (fclose(r->file) && !rc)
        rc = -errno;
    r->file = NULL;
    if (rc)
        snprintf(err, err_cap, "%s: the recording could not be written: %s", r->name, strerror(-rc));
    recorder_free(r);
    return rc;
}
