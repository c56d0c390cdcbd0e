#include "device-sim/fleet/events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 1 << 20 };

struct sl_events {
    FILE *file;
    char *buffer;
    uint64_t start_ns, lines, max_lines, left_out;
    int failed;
};

int sl_events_open(const char *path, uint64_t start_ns, uint64_t max_lines, struct sl_events **out, char *err,
    size_t err_cap)
{
    struct sl_events *e = calloc(1, sizeof(*e));

    *out = NULL;
    if (!e) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    e->start_ns = start_ns;
    e->max_lines = max_lines;
    e->file = fopen(path, "we");
    if (!e->file) {
        int code = errno;
        snprintf(
            err, err_cap, "%s: %s; give a run directory that can be written (--run)", path, strerror(code));
        free(e);
        return -code;
    }
    e->buffer = malloc(BUFFER_BYTES);
    if (e->buffer)
        setvbuf(e->file, e->buffer, _IOFBF, BUFFER_BYTES);
    *out = e;
    return 0;
}

static bool begin(struct sl_events *e, uint64_t now_ns, int64_t phone, const char *event)
{
    if (e->lines >= e->max_lines) {
        e->left_out++;
        return false;
    }
    e->lines++;
    fprintf(e->file, "{\"t\":%" PRIu64, now_ns > e->start_ns ? now_ns - e->start_ns : 0);
    if (phone >= 0)
        fprintf(e->file, ",\"phone\":%" PRId64, phone);
    fprintf(e->file, ",\"event\":\"%s\"", event);
    return true;
}

static void end(struct sl_events *e)
{
    fputs("}\n", e->file);
    if (ferror(e->file) && !e->failed)
        e->failed = errno ? -errno : -EIO;
}

static void put_text(struct sl_events *e, const char *key, const char *text)
{
    fprintf(e->file, ",\"%s\":\"", key);
    for (const char *c = text; *c; c++)
        fputc((unsigned char)*c < ' ' || *c == '"' || *c == '\\' ? '?' : *c, e->file);
    fputc('"', e->file);
}

void sl_events_numbers(struct sl_events *e, uint64_t now_ns, int64_t phone, const char *event,
    const char *const *keys, const uint64_t *values, unsigned n)
{
    if (!e || !begin(e, now_ns, phone, event))
        return;
    for (unsigned i = 0; i < n; i++)
        fprintf(e->file, ",\"%s\":%" PRIu64, keys[i], values[i]);
    end(e);
}

void sl_events_texts(struct sl_events *e, uint64_t now_ns, int64_t phone, const char *event,
    const char *a_key, const char *a, const char *b_key, const char *b)
{
    if (!e || !begin(e, now_ns, phone, event))
        return;
    put_text(e, a_key, a);
    if (b_key)
        put_text(e, b_key, b);
    end(e);
}

void sl_events_sight(struct sl_events *e, const struct sl_emulator_seen *s, uint64_t start_ns)
{
    static const char *const names[] = {[SL_EMULATOR_DROPPED] = "packet_dropped",
        [SL_EMULATOR_WOKEN] = "radio_woken",
        [SL_EMULATOR_MOVED] = "radio_moved",
        [SL_EMULATOR_TAKEN] = "packet_sent",
        [SL_EMULATOR_ARRIVED] = "packet_arrived"};

    if (!e || !begin(e, s->at_ns, s->phone, names[s->what]))
        return;
    if (s->what == SL_EMULATOR_MOVED) {
        end(e);
        return;
    }
    put_text(e, "direction", s->up ? "up" : "down");
    if (s->what == SL_EMULATOR_WOKEN)
        fprintf(e->file, ",\"ready\":%" PRIu64, s->ready_ns - start_ns);
    else
        fprintf(e->file, ",\"bytes\":%" PRIu32, s->bytes);
    if (s->what == SL_EMULATOR_DROPPED)
        put_text(e, "why", sl_link_verdict_name(s->verdict));
    end(e);
}

int sl_events_close(struct sl_events *e, uint64_t now_ns, uint64_t unseen)
{
    static const char *const keys[] = {"events", "left_out"};
    int rc;

    if (!e)
        return 0;
    uint64_t counts[] = {e->lines, e->left_out + unseen};
    e->max_lines = UINT64_MAX;
    sl_events_numbers(e, now_ns, SL_EVENTS_EDGE, "end", keys, counts, 2);
    rc = e->failed;
    if (fclose(e->file) && !rc)
        rc = -errno;
    free(e->buffer);
    free(e);
    return rc;
}
