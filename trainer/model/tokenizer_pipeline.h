/* What tokenizer.json puts around the BPE model. */
#pragma once

#include "trainer/model/json.h"
#include "trainer/model/tokenizer_internal.h"

/* normalizer and pre_tokenizer: sets normalizers, splits, byte_level, add_prefix_space. */
int sl_pipeline_before_model(struct sl_tokenizer *, const cJSON *root, char *err, size_t err_cap);
/* post_processor and decoder, which name tokens: needs the vocabulary. */
int sl_pipeline_after_model(struct sl_tokenizer *, const cJSON *root, char *err, size_t err_cap);
