/* The server's optimiser: what the copies' mean change does to G.
 *
 * FedAdam (Reddi et al., arXiv 2003.00295, algorithm 2). With D the mean change of a block since the last
 * boundary (rules L4), the pseudo-gradient of the ascent,
 *
 *     m <- b1 m + (1 - b1) D,   v <- b2 v + (1 - b2) D^2,   G <- G + lr m / (sqrt(v) + tau)
 *
 * with m = 0 and v = tau^2 at first, without correction of the bias, element by element. A block that nobody
 * trained since the last boundary stays as it is, its moments too. */
#pragma once

#include "trainer/pipeline/image.h"

enum sl_server_kind { SL_SERVER_NONE, SL_SERVER_FEDADAM };

struct sl_server_config {
    enum sl_server_kind kind;
    double lr, beta1, beta2, tau;
};

struct sl_server;
/* For n_layers blocks of `block` floats each. -ENOMEM. */
int sl_server_create(const struct sl_server_config *, uint32_t n_layers, size_t block, struct sl_server **);
void sl_server_free(struct sl_server *);

/* next[layer]: in, what the mean of the copies makes of g[layer]; out, what the server does. [block] each. */
void sl_server_step(struct sl_server *, uint32_t layer, const float *g, float *next);

/* The moments as a checkpoint's part (SL_PART_SERVER), and back. */
size_t sl_server_part_bytes(const struct sl_server *);
void sl_server_put(const struct sl_server *, struct sl_image *);
bool sl_server_get(struct sl_server *, struct sl_section); /* false: of another shape, or not finite */
