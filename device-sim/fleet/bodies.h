/* Bodies of the fleet's phones: from the experiment's classes to device-sim/body, and what they tell. */
#pragma once

#include "device-sim/body/body.h"
#include "device-sim/body/rrc.h"
#include "device-sim/fleet/plane.h"
#include "trainer/experiment/experiment.h"

struct sl_bodies {
    uint32_t n;
    struct sl_body *body;           /* [n] */
    struct sl_body_config *classes; /* [n_classes] */
};
/* -ENOMEM, -EINVAL. */
int sl_bodies_create(const struct sl_experiment *, uint64_t now_ns, struct sl_bodies *);
void sl_bodies_free(struct sl_bodies *);
/* Body i now, with what the data lcore says of its radio. */
struct sl_body *sl_body_of(struct sl_bodies *, const struct sl_plane *, uint32_t i, uint64_t now_ns);

void sl_body_config_of(const struct sl_class_config *, struct sl_body_config *);
void sl_rrc_config_of(const struct sl_class_config *, struct sl_rrc_config *);
