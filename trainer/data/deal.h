/* Who gets which record. Internal to the folder. */
#pragma once

#include "trainer/data/shard.h"

/* phone_of_record [records->n] and hands [n_phones], bytes of training text. 0; -ERANGE with an error that
 * names the largest possible number of phones; -EINVAL; -ENOMEM. */
int sl_deal_by_file(const struct sl_records *, const struct sl_shard_config *, uint32_t n_phones,
    uint32_t *phone_of_record, size_t *hands, char *err, size_t err_cap);
int sl_deal_dirichlet(const struct sl_records *, const struct sl_shard_config *, uint32_t n_phones,
    uint32_t *phone_of_record, size_t *hands, char *err, size_t err_cap);
