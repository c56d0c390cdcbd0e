#include "trainer/experiment/experiment.h"

#include "trainer/experiment/read.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 20 };

static int empty(struct sl_reader *r)
{
    snprintf(
        r->err, r->err_cap, "%s:1: the file is empty; docs/experiment.md shows one to start from", r->file);
    return -EINVAL;
}

static int read_document(struct sl_reader *r, yaml_document_t *document, struct sl_experiment *e)
{
    yaml_node_t *root = yaml_document_get_root_node(document);
    struct sl_read_target *t;
    int status;

    if (!root)
        return empty(r);
    t = calloc(1, sizeof *t);
    if (!t)
        return -ENOMEM;
    r->document = document;
    status = sl_experiment_read_keys(r, root, t);
    if (status == 0)
        status = sl_experiment_check_whole(r, t);
    if (status == 0)
        *e = t->e;
    free(t);
    return status;
}

static int yaml_error(struct sl_reader *r, const yaml_parser_t *p)
{
    snprintf(r->err, r->err_cap, "%s:%zu: not YAML: %s", r->file, p->problem_mark.line + 1,
        p->problem ? p->problem : "out of memory");
    return -EINVAL;
}

int sl_experiment_parse(
    const char *yaml, size_t len, const char *file_name, struct sl_experiment *e, char *err, size_t err_cap)
{
    struct sl_reader r = {.file = file_name, .err = err, .err_cap = err_cap};
    yaml_parser_t parser;
    yaml_document_t document, second;
    int status;

    if (!yaml_parser_initialize(&parser))
        return -ENOMEM;
    yaml_parser_set_input_string(&parser, (const unsigned char *)yaml, len);
    if (!yaml_parser_load(&parser, &document)) {
        status = yaml_error(&r, &parser);
        yaml_parser_delete(&parser);
        return status;
    }
    status = read_document(&r, &document, e);
    if (status == 0 && yaml_document_get_root_node(&document)) {
        if (!yaml_parser_load(&parser, &second)) {
            status = yaml_error(&r, &parser);
        } else {
            yaml_node_t *root = yaml_document_get_root_node(&second);
            if (root)
                status = sl_schema_error(&r, root, "a second YAML document; keep one experiment in a file");
            yaml_document_delete(&second);
        }
    }
    yaml_document_delete(&document);
    yaml_parser_delete(&parser);
    return status;
}

int sl_experiment_load(const char *file, struct sl_experiment *e, char *err, size_t err_cap)
{
    FILE *f = fopen(file, "re");
    char *text;
    size_t n;
    int status;

    if (!f) {
        status = -errno;
        snprintf(err, err_cap, "%s: %s; name an experiment file (docs/experiment.md shows one)", file,
            strerror(errno));
        return status;
    }
    text = malloc(FILE_BYTES_MAX);
    if (!text) {
        fclose(f);
        return -ENOMEM;
    }
    n = fread(text, 1, FILE_BYTES_MAX, f);
    if (ferror(f)) {
        snprintf(err, err_cap, "%s: cannot be read: %s", file, strerror(errno));
        status = -EIO;
    } else if (n == FILE_BYTES_MAX) {
        snprintf(err, err_cap, "%s: larger than 1 MiB; is it an experiment file?", file);
        status = -EINVAL;
    } else {
        status = sl_experiment_parse(text, n, file, e, err, err_cap);
    }
    free(text);
    fclose(f);
    return status;
}

uint32_t sl_experiment_cut(const struct sl_experiment *e, uint32_t class, uint64_t step)
{
    uint32_t cut = e->fleet[class].cut;

    for (uint32_t i = 0; i < e->n_changes && e->changes[i].step <= step; i++)
        cut = e->changes[i].cut[class];
    return cut;
}

uint32_t sl_experiment_class_of(const struct sl_experiment *e, uint32_t device)
{
    uint32_t c = 0;

    while (c + 1 < e->n_classes && device >= e->fleet[c].count)
        device -= e->fleet[c++].count;
    return c;
}

uint32_t sl_experiment_device_cut(
    const struct sl_experiment *e, uint32_t class, uint32_t device, uint64_t step)
{
    uint32_t least = e->plan.min_cut[class], most = e->plan.max_cut[class];

    if (!e->plan.random)
        return sl_experiment_cut(e, class, step);
    return least +
           (uint32_t)(sl_rng_u64(sl_rng_key(e->seed, "plan.cut: random"), device) % (most - least + 1));
}

bool sl_experiment_comes_and_goes(const struct sl_experiment *e)
{
    for (uint32_t i = 0; i < e->n_classes; i++)
        if (sl_life_keys_change(&e->fleet[i].life))
            return true;
    return false;
}
