#include "trainer/data/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sl_stream_from_records(const struct sl_tokenizer *tok, const struct sl_record *const *recs, size_t n,
    int32_t eos_id, struct sl_stream *stream)
{
    int32_t bos = sl_tokenizer_bos(tok);
    size_t cap = 0;
    *stream = (struct sl_stream){0};
    for (size_t r = 0; r < n; r++) {
        uint32_t *ids;
        size_t k;
        int rc = sl_tokenizer_encode(tok, recs[r]->text, recs[r]->len, &ids, &k);
        if (rc == 0 && stream->n + k + 2 > cap) {
            cap = 2 * cap + k + 2;
            uint32_t *bigger = realloc(stream->ids, cap * sizeof *bigger);
            if (bigger) {
                stream->ids = bigger;
            } else {
                free(ids);
                rc = -ENOMEM;
            }
        }
        if (rc) {
            sl_stream_free(stream);
            return rc;
        }
        bool ended = stream->n && stream->ids[stream->n - 1] == (uint32_t)bos && bos == eos_id;
        if (bos >= 0 && !ended)
            stream->ids[stream->n++] = (uint32_t)bos;
        if (k)
            memcpy(stream->ids + stream->n, ids, k * sizeof *ids);
        stream->n += k;
        if (eos_id >= 0)
            stream->ids[stream->n++] = (uint32_t)eos_id;
        free(ids);
    }
    return 0;
}

/* One line of ids. On -EINVAL, *bad is where the trouble starts. */
static int parse_line(
    const char *line, const char *end, uint32_t vocab, struct sl_stream *stream, const char **bad)
{
    size_t cap = (size_t)(end - line) / 2 + 1; /* every id takes a digit and a space */
    stream->ids = malloc(cap * sizeof *stream->ids);
    if (!stream->ids)
        return -ENOMEM;
    for (const char *p = line; p < end;) {
        if (*p == ' ' || *p == '\t' || *p == '\r') {
            p++;
            continue;
        }
        uint64_t id = 0;
        const char *digit = p;
        while (digit < end && *digit >= '0' && *digit <= '9' && id < vocab)
            id = 10 * id + (uint64_t)(*digit++ - '0');
        bool stops = digit == end || *digit == ' ' || *digit == '\t' || *digit == '\r';
        if (digit == p || !stops || id >= vocab) {
            *bad = p;
            return -EINVAL;
        }
        stream->ids[stream->n++] = (uint32_t)id;
        p = digit;
    }
    return 0;
}

static void free_streams(struct sl_stream *streams, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sl_stream_free(&streams[i]);
    free(streams);
}

int sl_streams_from_ids(const char *name, const char *bytes, size_t len, uint32_t vocab,
    struct sl_stream **streams, size_t *n, char *err, size_t err_cap)
{
    struct sl_stream *list = NULL;
    size_t count = 0, cap = 0, line_no = 1;
    int rc = 0;
    for (const char *line = bytes, *end = bytes + len; line < end && !rc; line_no++) {
        const char *eol = memchr(line, '\n', (size_t)(end - line)), *bad = NULL;
        const char *stop = eol ? eol : end;
        struct sl_stream stream = {0};
        rc = parse_line(line, stop, vocab, &stream, &bad);
        if (rc == -EINVAL) {
            int shown = 0; /* the bytes need not end in a NUL */
            while (shown < 24 && bad + shown < stop && !strchr(" \t\r", bad[shown]))
                shown++;
            snprintf(err, err_cap, "%s:%zu: \"%.*s\" is not a token id below %u", name, line_no, shown, bad,
                vocab);
        }
        if (rc == 0 && stream.n && count == cap) {
            cap = 2 * cap + 8;
            struct sl_stream *bigger = realloc(list, cap * sizeof *list);
            if (bigger)
                list = bigger;
            else
                rc = -ENOMEM;
        }
        if (rc == 0 && stream.n)
            list[count++] = stream;
        else
            sl_stream_free(&stream);
        line = stop + 1;
    }
    if (rc == -ENOMEM)
        snprintf(err, err_cap, "%s: out of memory", name);
    if (rc == 0 && count == 0) {
        snprintf(err, err_cap, "%s: holds no token ids", name);
        rc = -EINVAL;
    }
    if (rc) {
        free_streams(list, count);
        return rc;
    }
    *streams = list;
    *n = count;
    return 0;
}

int sl_streams_from_ids_file(
    const char *path, uint32_t vocab, struct sl_stream **streams, size_t *n, char *err, size_t err_cap)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        int code = errno;
        snprintf(err, err_cap, "%s: %s", path, strerror(code));
        return code == ENOENT ? -ENOENT : -EIO;
    }
    char *bytes = NULL;
    size_t cap = 0;
    errno = 0;
    ssize_t len = getdelim(&bytes, &cap, '\0', file);
    int rc;
    if (ferror(file)) {
        snprintf(err, err_cap, "%s: %s", path, strerror(errno));
        rc = -EIO;
    } else if (getc(file) != EOF) {
        snprintf(err, err_cap, "%s: not a text file (it holds a NUL byte)", path);
        rc = -EINVAL;
    } else {
        rc = sl_streams_from_ids(path, bytes, len > 0 ? (size_t)len : 0, vocab, streams, n, err, err_cap);
    }
    free(bytes);
    fclose(file);
    return rc;
}

void sl_stream_free(struct sl_stream *stream)
{
    free(stream->ids);
    *stream = (struct sl_stream){0};
}

size_t sl_windows(const struct sl_stream *stream, uint32_t seq)
{
    return stream->n / seq;
}

const uint32_t *sl_window(const struct sl_stream *stream, uint32_t seq, size_t i)
{
    return stream->ids + i * seq;
}
