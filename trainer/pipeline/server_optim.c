#include "trainer/pipeline/server_optim.h"

#include "trainer/pipeline/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sl_server {
    struct sl_server_config config;
    uint32_t n_layers;
    size_t block;
    float *m, *v; /* [n_layers, block] */
};

int sl_server_create(
    const struct sl_server_config *config, uint32_t n_layers, size_t block, struct sl_server **out)
{
    size_t n = n_layers * block;
    struct sl_server *s = calloc(1, sizeof *s);
    *out = s;
    if (!s)
        return -ENOMEM;
    s->config = *config;
    s->n_layers = n_layers;
    s->block = block;
    s->m = calloc(n, sizeof *s->m);
    s->v = malloc(n * sizeof *s->v);
    if (!s->m || !s->v) {
        sl_server_free(s);
        *out = NULL;
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++)
        s->v[i] = (float)(config->tau * config->tau);
    return 0;
}

void sl_server_free(struct sl_server *s)
{
    if (!s)
        return;
    free(s->m);
    free(s->v);
    free(s);
}

void sl_server_step(struct sl_server *s, uint32_t layer, const float *g, float *next)
{
    double b1 = s->config.beta1, b2 = s->config.beta2, lr = s->config.lr, tau = s->config.tau;
    float *m = s->m + layer * s->block, *v = s->v + layer * s->block;
    for (size_t i = 0; i < s->block; i++) {
        double change = (double)next[i] - g[i];
        double mi = b1 * m[i] + (1 - b1) * change, vi = b2 * v[i] + (1 - b2) * change * change;
        m[i] = (float)mi;
        v[i] = (float)vi;
        next[i] = (float)(g[i] + lr * mi / (sqrt(vi) + tau));
    }
}

size_t sl_server_part_bytes(const struct sl_server *s)
{
    return 2 * s->n_layers * s->block * sizeof(float) + 2 * SL_IMAGE_SECTION_HEADER;
}

void sl_server_put(const struct sl_server *s, struct sl_image *im)
{
    size_t n = s->n_layers * s->block;
    sl_image_section(im, SL_PART_SERVER);
    sl_image_floats(im, s->m, n);
    sl_image_floats(im, s->v, n);
}

bool sl_server_get(struct sl_server *s, struct sl_section part)
{
    size_t n = s->n_layers * s->block;
    if (part.bad || part.left != 2 * n * sizeof(float))
        return false;
    sl_section_floats(&part, s->m, n);
    sl_section_floats(&part, s->v, n);
    return sl_section_ended(&part);
}
