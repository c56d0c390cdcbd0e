/* Reading an experiment file, from the inside: keys.c fills a target, whole.c checks what no single key can
 * say, experiment.c does the file around them. */
#pragma once

#include "trainer/experiment/experiment.h"
#include "trainer/experiment/schema.h"

/* What plan.cut said, until the fleet is known. */
struct sl_read_cuts {
    uint32_t cut[SL_CLASSES_MAX], n;
    size_t line;
};
/* plan.fixed: clock_hz, power_w, rate_up_mbps, share. */
enum { SL_FIXED_BOUNDS = 4 };
/* The struct being filled, and what does not belong into the result. */
struct sl_read_target {
    struct sl_experiment e; /* first: the table's offsets are into it */
    struct sl_read_cuts cuts, changes[SL_CHANGES_MAX], start_cuts, min_cuts, max_cuts;
    struct sl_read_fixed {
        double of[SL_FIXED_BOUNDS][SL_CLASSES_MAX];
        uint32_t n[SL_FIXED_BOUNDS];
        size_t line;
    } fixed;
    char objective[12];                     /* becomes plan.printed */
    char policy[16];                        /* of gangs: becomes gang.async */
    char how[16];                           /* of averaging LoRA's factors: becomes lora.freeze_a */
    char edge_compute[16], sim_compute[16]; /* become edge.modelled and sim.replay */
};

/* keys.c: defaults, then every key. -EINVAL with the reader's err. */
int sl_experiment_read_keys(struct sl_reader *, yaml_node_t *root, struct sl_read_target *);
/* keys_class.c: the list of classes; `base` is the target. */
int sl_experiment_read_fleet(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
/* keys_body.c: a class's keys about the phone itself. begin: what its preset, or no preset, says; finish,
 * after the keys: what must be there, and what follows. */
size_t sl_experiment_body_fields(const struct sl_field **);
void sl_experiment_begin_body(struct sl_reader *, yaml_node_t *, struct sl_class_config *);
int sl_experiment_finish_body(struct sl_reader *, const yaml_node_t *, struct sl_class_config *);
/* keys_link.c: a class's keys that begin with "link."; offsets are into struct sl_class_config. */
size_t sl_experiment_link_fields(const struct sl_field **);
size_t sl_experiment_queue_fields(const struct sl_field **); /* keys_queue.c: likewise */
void sl_experiment_begin_link(struct sl_class_config *);
int sl_experiment_finish_link(struct sl_reader *, const yaml_node_t *, struct sl_class_config *);
/* keys_radio.c: the list `radio`; then which entry each class's link names. */
int sl_experiment_read_radio(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
int sl_experiment_check_radio(struct sl_reader *, struct sl_experiment *);
/* keys_life.c: a class's keys about when its phones take part, and what is so where nothing is said. */
size_t sl_experiment_life_fields(const struct sl_field **);
extern const struct sl_life_keys sl_life_keys_default;
/* keys_shards.c: data.dirichlet; `base` is the target. */
int sl_experiment_read_dirichlet(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
/* keys_fixed.c: plan.fixed, and then which class has what. */
int sl_experiment_read_fixed(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
int sl_experiment_check_fixed(struct sl_reader *, struct sl_read_target *);
/* keys_plan.c: the section `plan`, and what its keys say together. */
size_t sl_experiment_plan_fields(const struct sl_field **);
void sl_experiment_begin_plan(struct sl_plan_keys *);
int sl_experiment_check_plan(struct sl_reader *, struct sl_read_target *);
/* whole.c: what keys say together, and what follows from them. */
int sl_experiment_check_whole(struct sl_reader *, struct sl_read_target *);
