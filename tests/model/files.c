#include "tests/model/files.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *must(void *p)
{
    if (!p) {
        perror("tests/model/files");
        abort();
    }
    return p;
}

char *files_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;
    if (asprintf(&path, "%s/sluice-test-XXXXXX", base && *base ? base : "/tmp") < 0)
        abort();
    return must(mkdtemp(path));
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *where)
{
    return remove(path);
}

void files_dir_remove(char *dir)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

char *files_path(const char *dir, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

void files_write(const char *dir, const char *name, const void *p, size_t n)
{
    char *path = files_path(dir, name);
    FILE *f = must(fopen(path, "wb"));
    if (fwrite(p, 1, n, f) != n || fclose(f))
        abort();
    free(path);
}

void *files_read(const char *dir, const char *name, size_t *n)
{
    char *path = files_path(dir, name);
    FILE *f = must(fopen(path, "rb"));
    fseek(f, 0, SEEK_END);
    size_t len = (size_t)ftell(f);
    rewind(f);
    char *p = must(malloc(len + 1));
    if (fread(p, 1, len, f) != len)
        abort();
    fclose(f);
    free(path);
    p[len] = 0;
    if (n)
        *n = len;
    return p;
}

struct files_tensors files_tensors_read(const char *dir, const char *name)
{
    size_t len;
    uint8_t *all = files_read(dir, name, &len);
    uint64_t header = 0;
    for (unsigned i = 0; i < 8; i++)
        header |= (uint64_t)all[i] << (8 * i);
    struct files_tensors t = {.len = len - 8 - header};
    t.header = must(cJSON_ParseWithLength((char *)all + 8, header));
    t.data = must(malloc(t.len + 1));
    memcpy(t.data, all + 8 + header, t.len);
    free(all);
    return t;
}

void files_tensors_write(const char *dir, const char *name, struct files_tensors *t)
{
    char *text = must(cJSON_PrintUnformatted(t->header));
    size_t header = strlen(text);
    uint8_t *all = must(malloc(8 + header + t->len));
    for (unsigned i = 0; i < 8; i++)
        all[i] = (uint8_t)((uint64_t)header >> (8 * i));
    memcpy(all + 8, text, header);
    memcpy(all + 8 + header, t->data, t->len);
    files_write(dir, name, all, 8 + header + t->len);
    free(all);
    free(text);
    free(t->data);
    cJSON_Delete(t->header);
}

void files_tensors_drop(struct files_tensors *t, const char *name)
{
    cJSON *gone = must(cJSON_DetachItemFromObjectCaseSensitive(t->header, name));
    cJSON *range = cJSON_GetObjectItemCaseSensitive(gone, "data_offsets");
    size_t begin = (size_t)range->child->valuedouble, end = (size_t)range->child->next->valuedouble;
    memmove(t->data + begin, t->data + end, t->len - end);
    t->len -= end - begin;
    for (cJSON *v = t->header->child; v; v = v->next) {
        cJSON *r = cJSON_GetObjectItemCaseSensitive(v, "data_offsets");
        for (cJSON *o = r ? r->child : NULL; o; o = o->next)
            if (o->valuedouble >= (double)end)
                cJSON_SetNumberHelper(o, o->valuedouble - (double)(end - begin));
    }
    cJSON_Delete(gone);
}

void files_tensors_add(struct files_tensors *t, const char *name, const char *dtype, const uint32_t *dims,
    unsigned n_dims, const void *p, size_t n)
{
    cJSON *v = must(cJSON_CreateObject()), *shape, *range;
    cJSON_AddStringToObject(v, "dtype", dtype);
    shape = cJSON_AddArrayToObject(v, "shape");
    for (unsigned i = 0; i < n_dims; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber(dims[i]));
    range = cJSON_AddArrayToObject(v, "data_offsets");
    cJSON_AddItemToArray(range, cJSON_CreateNumber((double)t->len));
    cJSON_AddItemToArray(range, cJSON_CreateNumber((double)(t->len + n)));
    cJSON_AddItemToObject(t->header, name, v);
    t->data = must(realloc(t->data, t->len + n + 1));
    memcpy(t->data + t->len, p, n);
    t->len += n;
}
