/* Base and adapter become one model directory. It is made beside its place and renamed when it is whole. */
#include "trainer/model/fold.h"
#include "trainer/model/json.h"
#include "trainer/model/peft.h"
#include "trainer/model/safetensors.h"
#include "trainer/tools/commands.h"
#include "trainer/tools/files.h"
#include "trainer/tools/subject.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 256 << 20, PATH_CAP = 4096 };

/* What tells text from ids, and how to generate; whatever of it the base has. */
static const char *const carried[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja",
    "generation_config.json"};

static const struct {
    const char *name, *torch;
    enum sl_dtype dtype;
} dtypes[] = {
    {"f32", "float32", SL_DTYPE_F32}, {"bf16", "bfloat16", SL_DTYPE_BF16}, {"f16", "float16", SL_DTYPE_F16}};

struct merge {
    const char *model, *adapter, *out;
    unsigned dtype;
    char part[PATH_CAP]; /* the directory that is being made; empty: none */
    struct sl_fold fold;
    double rounding; /* squared, of the adapted matrices, by the dtype */
};

static int in_dir(char path[static PATH_CAP], const char *dir, const char *name, char *err, size_t err_cap)
{
    if ((size_t)snprintf(path, PATH_CAP, "%s/%s", dir, name) < PATH_CAP)
        return 0;
    snprintf(err, err_cap, "%.500s...: the path is too long; name a shorter one", dir);
    return -ENAMETOOLONG;
}

static int copy(const char *from_dir, const char *to_dir, const char *name, char *err, size_t err_cap)
{
    char from[PATH_CAP], to[PATH_CAP], *text;
    size_t len;
    int rc = in_dir(from, from_dir, name, err, err_cap);
    if (rc || access(from, F_OK))
        return rc;
    rc = in_dir(to, to_dir, name, err, err_cap);
    if (!rc)
        rc = sl_read_file(from, FILE_MAX, &text, &len, err, err_cap);
    if (rc)
        return rc;
    rc = sl_file_write(to, text, len, err, err_cap);
    free(text);
    return rc;
}

/* The base's config.json with all that it says, but for the dtype. */
static int write_config(const struct merge *m, char *err, size_t err_cap)
{
    char from[PATH_CAP], to[PATH_CAP], *text;
    size_t len;
    cJSON *root = NULL;
    int rc = in_dir(from, m->model, "config.json", err, err_cap);
    if (!rc)
        rc = in_dir(to, m->part, "config.json", err, err_cap);
    if (!rc)
        rc = sl_read_file(from, FILE_MAX, &text, &len, err, err_cap);
    if (rc)
        return rc;
    rc = sl_json_parse(text, len, from, &root, err, err_cap);
    free(text);
    if (rc)
        return rc;
    cJSON_DeleteItemFromObjectCaseSensitive(root, "torch_dtype");
    cJSON_DeleteItemFromObjectCaseSensitive(root, "dtype"); /* its name since transformers 4.56 */
    bool added = cJSON_AddStringToObject(root, "torch_dtype", dtypes[m->dtype].torch) != NULL;
    char *out = added ? cJSON_Print(root) : NULL;
    if (!out)
        snprintf(err, err_cap, "out of memory");
    rc = out ? sl_file_write(to, out, strlen(out), err, err_cap) : -ENOMEM;
    free(out);
    cJSON_Delete(root);
    return rc;
}

/* Reads back what was written, and how far the dtype has moved the adapted matrices (all others were of the
 * base's own dtype, or move as any conversion moves them). */
static int check_written(
    struct merge *m, struct sl_model *model, const struct sl_adapter *adapter, char *err, size_t err_cap)
{
    char path[PATH_CAP];
    struct sl_st_file st;
    int rc = in_dir(path, m->part, "model.safetensors", err, err_cap);
    if (!rc)
        rc = sl_st_open(path, &st, err, err_cap);
    if (rc)
        return rc;
    m->rounding = 0;
    for (uint32_t i = 0; i < st.header.n && !rc; i++) {
        const struct sl_st_tensor *t = &st.header.tensors[i];
        const struct sl_param *p = sl_model_find(model, t->name);
        if (!p || !p->data || p->n != t->n) {
            snprintf(err, err_cap, "%.500s: %.200s is not what was to be written", path, t->name);
            rc = -EIO;
            break;
        }
        if (!sl_fold_touches(sl_model_config(model), adapter, t->name))
            continue;
        float *back = malloc(t->n * sizeof *back);
        rc = back ? sl_st_read(&st, t, back, err, err_cap) : -ENOMEM;
        for (size_t k = 0; !rc && k < t->n; k++)
            m->rounding += ((double)back[k] - p->data[k]) * ((double)back[k] - p->data[k]);
        free(back);
    }
    sl_st_close(&st);
    return rc;
}

static int begin(struct merge *m, char *err, size_t err_cap)
{
    struct stat st;
    size_t len = strlen(m->out);
    while (len > 1 && m->out[len - 1] == '/')
        len--;
    if (!lstat(m->out, &st)) {
        snprintf(err, err_cap, "%s exists; name another --out, nothing is overwritten", m->out);
        return -EEXIST;
    }
    if ((size_t)snprintf(m->part, sizeof m->part, "%.*s.part-XXXXXX", (int)len, m->out) >= sizeof m->part ||
        !mkdtemp(m->part)) {
        int rc = -errno;
        snprintf(err, err_cap, "%s: cannot make it: %s", m->out, strerror(-rc));
        m->part[0] = '\0';
        return rc;
    }
    chmod(m->part, 0755);
    return 0;
}

static void abandon(struct merge *m)
{
    DIR *dir = m->part[0] ? opendir(m->part) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir)
        closedir(dir);
    if (m->part[0])
        rmdir(m->part);
    m->part[0] = '\0';
}

static int finish(struct merge *m, char *err, size_t err_cap)
{
    if (renameat2(AT_FDCWD, m->part, AT_FDCWD, m->out, RENAME_NOREPLACE)) {
        int rc = -errno;
        snprintf(err, err_cap, "%s: %s; nothing was overwritten", m->out, strerror(-rc));
        return rc;
    }
    m->part[0] = '\0';
    return 0;
}

static int merge(struct merge *m, struct sl_subject *s, char *err, size_t err_cap)
{
    int rc = sl_model_load(m->model, &s->model, err, err_cap);
    if (!rc)
        rc = sl_peft_load(m->adapter, sl_model_config(s->model), &s->adapter, err, err_cap);
    if (!rc)
        rc = begin(m, err, err_cap);
    if (!rc && (rc = sl_model_fold(s->model, s->adapter, &m->fold)))
        snprintf(err, err_cap, "the adapter cannot be added to the weights: %s",
            rc == -ERANGE ? "the sum is not finite" : strerror(-rc));
    if (!rc)
        rc = sl_model_save(s->model, m->part, dtypes[m->dtype].dtype, err, err_cap);
    if (!rc)
        rc = write_config(m, err, err_cap);
    for (unsigned i = 0; !rc && i < sizeof carried / sizeof *carried; i++)
        rc = copy(m->model, m->part, carried[i], err, err_cap);
    if (!rc)
        rc = check_written(m, s->model, s->adapter, err, err_cap);
    if (!rc)
        rc = finish(m, err, err_cap);
    abandon(m);
    return rc;
}

static void print(const struct merge *m, bool json)
{
    double of_weights = m->fold.weights > 0 ? sqrt(m->rounding / m->fold.weights) : 0;
    double of_change = m->fold.change > 0 ? sqrt(m->rounding / m->fold.change) : 0;
    if (!json) {
        printf("%s: %u matrices changed, stored in %s\n", m->out, m->fold.matrices, dtypes[m->dtype].name);
        printf(
            "rounding to %s moves these matrices by %.3g of their norm, %.3g of what the adapter changes\n",
            dtypes[m->dtype].name, of_weights, of_change);
        return;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "out", m->out);
    cJSON_AddStringToObject(o, "dtype", dtypes[m->dtype].name);
    cJSON_AddNumberToObject(o, "matrices", m->fold.matrices);
    cJSON_AddNumberToObject(o, "rounding_of_weights", of_weights);
    cJSON_AddNumberToObject(o, "rounding_of_change", of_change);
    char *text = cJSON_Print(o);
    puts(text ? text : "{}");
    free(text);
    cJSON_Delete(o);
}

static int run(int argc, char **argv)
{
    const struct sl_command *cmd = &sl_merge_command;
    struct merge m = {0};
    const char *dtype = "f32";
    bool json = false;
    struct sl_opt table[] = {
        {"model", SL_OPT_WORD, &m.model, "DIR", "model directory (Hugging Face layout)", true, 0, 0, 0},
        {"adapter", SL_OPT_WORD, &m.adapter, "DIR", "PEFT adapter of that model", true, 0, 0, 0},
        {"out", SL_OPT_WORD, &m.out, "DIR", "directory to make; it must not exist", true, 0, 0, 0},
        {"dtype", SL_OPT_WORD, &dtype, "D", "of the weights in the file: f32, bf16, f16 (default f32)", 0, 0,
            0, 0},
        {"json", SL_OPT_FLAG, &json, NULL, "print JSON", 0, 0, 0, 0},
        {0},
    };
    struct sl_opt *tables[] = {table};
    struct sl_subject subject = {0};
    char err[1024] = "";
    int code = sl_cli_parse(cmd, tables, 1, argc, argv);
    if (code >= 0)
        return code;
    while (m.dtype < sizeof dtypes / sizeof *dtypes && strcmp(dtypes[m.dtype].name, dtype))
        m.dtype++;
    if (m.dtype == sizeof dtypes / sizeof *dtypes) {
        code = sl_cli_fail(cmd, SL_EXIT_USAGE, "--dtype is f32, bf16 or f16");
    } else if (merge(&m, &subject, err, sizeof err)) {
        code = sl_cli_fail(cmd, SL_EXIT_FAILED, "%s", err);
    } else {
        print(&m, json);
        code = SL_EXIT_OK;
    }
    sl_subject_free(&subject);
    sl_cli_free(tables, 1);
    return code;
}

const struct sl_command sl_merge_command = {
    .name = "merge",
    .summary =
        "Writes base model and adapter as one model, in Hugging Face's layout.\n"
        "Each adapted weight becomes W + (alpha/rank) B A; config.json, tokenizer and generation settings\n"
        "are the base's. In f32 the sum is as exact as the base; bf16 and f16 round it, and by how much is\n"
        "printed: where that is not small beside what the adapter changes, keep f32, or the adapter.",
    .examples =
        "  sluice-train merge --model trainer/models/base --adapter runs/last/adapters/global --out merged\n",
    .run = run,
};
