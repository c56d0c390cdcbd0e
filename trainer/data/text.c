#include "trainer/data/text.h"

#include "trainer/model/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct sl_origin {
    dev_t device; /* both 0: from memory */
    ino_t inode;
    uint8_t hash[32]; /* of the file's bytes */
};

static bool ends_with(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n >= k && memcmp(name + n - k, suffix, k) == 0;
}

/* Room for one more element of an array that doubles at powers of two. */
static int grow(void **array, size_t n, size_t size)
{
    if (n & (n - 1))
        return 0;
    void *bigger = realloc(*array, (n ? 2 * n : 1) * size);
    if (!bigger)
        return -ENOMEM;
    *array = bigger;
    return 0;
}

/* Takes `text` (of the current last file) without its overstrikes; an empty record is dropped. */
static int add_record(struct sl_records *records, const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, text, len);
    len = sl_text_remove_overstrikes(copy, len);
    copy[len] = '\0';
    if (len == 0) {
        free(copy);
        return 0;
    }
    int rc = grow((void **)&records->rec, records->n, sizeof *records->rec);
    if (rc) {
        free(copy);
        return rc;
    }
    struct sl_record *rec = &records->rec[records->n++];
    rec->text = copy;
    rec->len = len;
    rec->file = (uint32_t)(records->n_files - 1);
    rec->line = 0;
    rec->label = SL_LABEL_NONE;
    SHA256((const uint8_t *)copy, len, rec->hash);
    return 0;
}

static bool is_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* The number of that label, entered where it is new; -ENOMEM. Neighbours often share one. */
static int64_t find_label(struct sl_records *records, const char *label)
{
    int32_t last = records->n ? records->rec[records->n - 1].label : SL_LABEL_NONE;
    if (last >= 0 && strcmp(records->labels[last], label) == 0)
        return last;
    for (size_t i = 0; i < records->n_labels; i++)
        if (strcmp(records->labels[i], label) == 0)
            return (int64_t)i;
    if (records->n_labels == SL_LABELS_MAX)
        return SL_LABEL_BEYOND;
    char *copy = strdup(label);
    if (!copy || grow((void **)&records->labels, records->n_labels, sizeof *records->labels)) {
        free(copy);
        return -ENOMEM;
    }
    records->labels[records->n_labels] = copy;
    return (int64_t)records->n_labels++;
}

static int64_t label_of(struct sl_records *records, const cJSON *label)
{
    char number[32];
    if (cJSON_IsString(label))
        return find_label(records, label->valuestring);
    if (!cJSON_IsNumber(label))
        return SL_LABEL_NONE;
    snprintf(number, sizeof number, "%.17g", label->valuedouble);
    return find_label(records, number);
}

static int add_json(struct sl_records *records, const cJSON *json, size_t line_no)
{
    const char *text = sl_json_get(json, "text")->valuestring;
    int64_t label = label_of(records, sl_json_get(json, "label"));
    size_t before = records->n;
    int rc = label == -ENOMEM ? -ENOMEM : add_record(records, text, strlen(text));
    if (records->n > before) {
        records->rec[before].label = (int32_t)label;
        records->rec[before].line = (uint32_t)line_no;
    }
    return rc;
}

static int add_jsonl(
    struct sl_records *records, const char *name, const char *bytes, size_t len, char *err, size_t err_cap)
{
    size_t line_no = 1;
    for (const char *line = bytes, *end = bytes + len; line < end; line_no++) {
        const char *eol = memchr(line, '\n', (size_t)(end - line));
        size_t n = (size_t)((eol ? eol : end) - line);
        if (!is_blank(line, n)) {
            char where[512];
            cJSON *json;
            snprintf(where, sizeof where, "%s:%zu", name, line_no);
            int rc = sl_json_parse(line, n, where, &json, err, err_cap);
            if (rc)
                return rc;
            const cJSON *text = sl_json_get(json, "text");
            if (cJSON_IsObject(json) && cJSON_IsString(text)) {
                rc = add_json(records, json, line_no);
            } else {
                snprintf(
                    err, err_cap, "%s: not a JSON object with a string \"text\" (one object a line)", where);
                rc = -EINVAL;
            }
            cJSON_Delete(json);
            if (rc)
                return rc;
        }
        line += n + 1;
    }
    return 0;
}

/* The next line that is exactly "%", or NULL. */
static const char *next_separator(const char *text, const char *end)
{
    for (const char *line = text; line < end;) {
        const char *eol = memchr(line, '\n', (size_t)(end - line));
        if (*line == '%' && (eol ? eol : end) == line + 1)
            return line;
        if (!eol)
            break;
        line = eol + 1;
    }
    return NULL;
}

static int add_plain(struct sl_records *records, const char *bytes, size_t len)
{
    const char *end = bytes + len, *separator = next_separator(bytes, end);
    if (!separator)
        return add_record(records, bytes, len);
    int rc = 0;
    for (const char *text = bytes; text < end && !rc;) {
        const char *stop = separator ? separator : end;
        size_t n = (size_t)(stop - text);
        rc = add_record(records, text, n && text[n - 1] == '\n' ? n - 1 : n);
        text = separator ? separator + 2 : end;
        separator = text < end ? next_separator(text, end) : NULL;
    }
    return rc;
}

/* Enters the file in the list; 1: it is there already. */
static int add_file(struct sl_records *records, const char *name, const struct sl_origin *origin)
{
    for (size_t i = 0; i < records->n_files; i++) {
        const struct sl_origin *other = &records->origins[i];
        bool same_inode = origin->inode && other->inode == origin->inode && other->device == origin->device;
        if (same_inode || memcmp(other->hash, origin->hash, sizeof origin->hash) == 0)
            return 1;
    }
    if (grow((void **)&records->files, records->n_files, sizeof *records->files) ||
        grow((void **)&records->origins, records->n_files, sizeof *records->origins))
        return -ENOMEM;
    char *copy = strdup(name);
    if (!copy)
        return -ENOMEM;
    records->origins[records->n_files] = *origin;
    records->files[records->n_files++] = copy;
    return 0;
}

static int add_bytes(struct sl_records *records, const char *name, struct sl_origin *origin,
    const char *bytes, size_t len, char *err, size_t err_cap)
{
    SHA256((const uint8_t *)bytes, len, origin->hash);
    int rc = add_file(records, name, origin);
    if (rc == 0)
        rc = ends_with(name, ".jsonl") ? add_jsonl(records, name, bytes, len, err, err_cap)
                                       : add_plain(records, bytes, len);
    if (rc == -ENOMEM)
        snprintf(err, err_cap, "%s: out of memory", name);
    return rc < 0 ? rc : 0;
}

int sl_records_append_bytes(
    struct sl_records *records, const char *name, const char *bytes, size_t len, char *err, size_t err_cap)
{
    struct sl_origin origin = {0};
    return add_bytes(records, name, &origin, bytes, len, err, err_cap);
}

static int read_all(int fd, const char *path, char **bytes, size_t *len, char *err, size_t err_cap)
{
    size_t cap = 0, n = 0;
    char *buffer = NULL;
    for (;;) {
        if (n + 1 >= cap) {
            cap = cap ? 2 * cap : 65536;
            char *bigger = realloc(buffer, cap);
            if (!bigger) {
                free(buffer);
                snprintf(err, err_cap, "%s: out of memory", path);
                return -ENOMEM;
            }
            buffer = bigger;
        }
        ssize_t got = read(fd, buffer + n, cap - n - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            snprintf(err, err_cap, "%s: %s", path, strerror(errno));
            free(buffer);
            return -EIO;
        }
        if (got == 0)
            break;
        n += (size_t)got;
    }
    buffer[n] = '\0';
    *bytes = buffer;
    *len = n;
    return 0;
}

/* `listed`: found in a directory, so what is not text is passed over. */
static int append_file(struct sl_records *records, const char *path, bool listed, char *err, size_t err_cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (listed ? O_NOFOLLOW : 0));
    if (fd < 0) {
        int code = errno;
        if (listed && code == ELOOP)
            return 0;
        snprintf(err, err_cap, "%s: %s", path, strerror(code));
        return code == ENOENT ? -ENOENT : -EIO;
    }
    struct stat st;
    char *bytes = NULL;
    size_t len = 0;
    int rc = 0;
    bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (!regular && !listed) {
        snprintf(err, err_cap, "%s: not a regular file", path);
        rc = -EINVAL;
    }
    if (regular)
        rc = read_all(fd, path, &bytes, &len, err, err_cap);
    close(fd);
    if (!regular || rc)
        return rc;
    if (memchr(bytes, '\0', len)) {
        if (!listed) {
            snprintf(err, err_cap, "%s: not a text file (it holds a NUL byte)", path);
            rc = -EINVAL;
        }
    } else {
        struct sl_origin origin = {.device = st.st_dev, .inode = st.st_ino};
        rc = add_bytes(records, path, &origin, bytes, len, err, err_cap);
    }
    free(bytes);
    return rc;
}

static int is_candidate(const struct dirent *entry)
{
    return entry->d_name[0] != '.' && !ends_with(entry->d_name, ".dat") && !ends_with(entry->d_name, ".u8");
}

/* Byte order, whatever the locale: the order of the files decides about shards. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int sl_records_append(struct sl_records *records, const char *path, char *err, size_t err_cap)
{
    struct stat st;
    if (stat(path, &st)) {
        int code = errno;
        snprintf(err, err_cap, "%s: %s", path, strerror(code));
        return code == ENOENT ? -ENOENT : -EIO;
    }
    if (!S_ISDIR(st.st_mode))
        return append_file(records, path, false, err, err_cap);

    struct dirent **entries;
    int n = scandir(path, &entries, is_candidate, by_name);
    if (n < 0) {
        snprintf(err, err_cap, "%s: %s", path, strerror(errno));
        return -EIO;
    }
    int rc = 0;
    for (int i = 0; i < n; i++) {
        char *file;
        if (rc == 0 && asprintf(&file, "%s/%s", path, entries[i]->d_name) >= 0) {
            rc = append_file(records, file, true, err, err_cap);
            free(file);
        }
        free(entries[i]);
    }
    free(entries);
    return rc;
}

int sl_records_read(const char *path, struct sl_records *records, char *err, size_t err_cap)
{
    *records = (struct sl_records){0};
    int rc = sl_records_append(records, path, err, err_cap);
    if (rc == 0 && records->n == 0) {
        snprintf(err, err_cap, "%s: holds no text", path);
        rc = -EINVAL;
    }
    if (rc)
        sl_records_free(records);
    return rc;
}

void sl_records_free(struct sl_records *records)
{
    for (size_t i = 0; i < records->n; i++)
        free(records->rec[i].text);
    for (size_t i = 0; i < records->n_files; i++)
        free(records->files[i]);
    for (size_t i = 0; i < records->n_labels; i++)
        free(records->labels[i]);
    free(records->labels);
    free(records->rec);
    free(records->files);
    free(records->origins);
    *records = (struct sl_records){0};
}

bool sl_record_held_out(const struct sl_record *rec, double fraction)
{
    uint64_t head = 0;
    for (int i = 0; i < 8; i++)
        head = head << 8 | rec->hash[i];
    return (double)(head >> 11) * 0x1p-53 < fraction;
}
