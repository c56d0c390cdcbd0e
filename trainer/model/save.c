/* A model to its directory, both files replaced as a whole. */
#include "trainer/model/fail.h"
#include "trainer/model/model_internal.h"
#include "trainer/model/replace.h"
#include "trainer/model/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CHUNK = 1 << 16 };

static const char *torch_name(enum sl_dtype dtype)
{
    return dtype == SL_DTYPE_F32 ? "float32" : dtype == SL_DTYPE_F16 ? "float16" : "bfloat16";
}

static int write_header(const struct sl_model *m, struct sl_replace *file, enum sl_dtype dtype)
{
    struct sl_st_entry *entries = calloc(m->n_params, sizeof *entries);
    uint8_t *header = NULL;
    size_t len;
    if (!entries)
        return -ENOMEM;
    for (uint32_t i = 0; i < m->n_params; i++) {
        const struct sl_param *p = &m->params[i];
        entries[i] = (struct sl_st_entry){p->name, p->n_dims, {p->dims[0], p->dims[1]}};
    }
    int err = sl_st_header_build(entries, m->n_params, dtype, &header, &len);
    if (!err)
        err = sl_replace_write(file, header, len);
    free(header);
    free(entries);
    return err;
}

static int write_param(const struct sl_param *p, struct sl_replace *file, enum sl_dtype dtype, uint8_t *chunk)
{
    int err = 0;
    for (size_t at = 0; at < p->n && !err; at += CHUNK) {
        size_t n = p->n - at < CHUNK ? p->n - at : CHUNK;
        err = sl_st_encode(p->data + at, n, dtype, chunk);
        if (!err)
            err = sl_replace_write(file, chunk, n * sl_dtype_size(dtype));
    }
    return err;
}

static int write_tensors(
    const struct sl_model *m, struct sl_replace *file, enum sl_dtype dtype, char *err, size_t err_cap)
{
    uint8_t *chunk = malloc((size_t)CHUNK * sl_dtype_size(dtype));
    int code = chunk ? write_header(m, file, dtype) : -ENOMEM;
    for (uint32_t i = 0; i < m->n_params && !code; i++) {
        code = write_param(&m->params[i], file, dtype, chunk);
        if (code == -ERANGE)
            code = sl_fail(-EINVAL, err, err_cap, "%s: a value is not finite in %s; nothing was written",
                m->params[i].name, torch_name(dtype));
        else if (code)
            sl_fail(code, err, err_cap, "%s: %s; the old file stays", file->path, strerror(-code));
    }
    free(chunk);
    return code;
}

static int write_config(const struct sl_model *m, struct sl_replace *file, enum sl_dtype dtype)
{
    char *text;
    size_t len;
    int err = sl_model_config_json(&m->config, torch_name(dtype), &text, &len);
    if (err)
        return err;
    err = sl_replace_write(file, text, len);
    if (!err)
        err = sl_replace_write(file, "\n", 1);
    free(text);
    return err;
}

int sl_model_save(const struct sl_model *m, const char *dir, enum sl_dtype dtype, char *err, size_t err_cap)
{
    struct sl_replace config = {.fd = -1}, tensors = {.fd = -1};
    for (uint32_t i = 0; i < m->n_params; i++)
        if (!m->params[i].data)
            return sl_fail(-EINVAL, err, err_cap,
                "%s is not in memory in f32: load the whole model, and save it before packing it",
                m->params[i].name);
    if (mkdir(dir, 0777) && errno != EEXIST)
        return sl_fail(-errno, err, err_cap, "%s: %s", dir, strerror(errno));
    if (err && err_cap)
        *err = 0;
    int code = sl_replace_open(&config, dir, "config.json");
    if (!code)
        code = sl_replace_open(&tensors, dir, "model.safetensors");
    if (!code)
        code = write_config(m, &config, dtype);
    if (!code)
        code = write_tensors(m, &tensors, dtype, err, err_cap);
    if (!code)
        code = sl_replace_flush(&config);
    if (!code)
        code = sl_replace_flush(&tensors);
    if (!code) /* both are on disk before either replaces its old self */
        code = sl_replace_commit(&tensors);
    if (!code)
        code = sl_replace_commit(&config);
    sl_replace_abort(&config);
    sl_replace_abort(&tensors);
    if (code && err && err_cap && !*err)
        sl_fail(code, err, err_cap, "%s: %s; the old files stay", dir, strerror(-code));
    return code;
}
