/* Small models with weights that tests/model/reference.py makes too: value i of tensor `name` is scale ·
 * u(i), u the uniform stream of trainer/tensor/rng.h keyed by (seed, name). */
#pragma once

#include "trainer/model/half.h"

/* Matrices: 1.7/sqrt(columns); norm weights 1 + 0.3 u; biases 0.3 u. Never NULL. */
struct sl_model *fixture_model(const struct sl_model_config *, uint64_t seed);
/* A as its seed says, B = 0.1 u: with B = 0 the gradient of A would be zero and a test of it would prove
 * nothing. */
struct sl_adapter *fixture_adapter(
    const struct sl_model_config *, const struct sl_lora_config *, uint32_t first, uint32_t last);
/* n token ids below vocab, of the stream (seed, name). */
void fixture_ids(uint64_t seed, const char *name, uint32_t vocab, uint32_t n, uint32_t *ids);
/* ‖a - b‖ / ‖b‖ in double. */
double fixture_distance(const float *a, const float *b, size_t n);
/* Every target of a family. */
uint32_t fixture_all_targets(enum sl_family);

/* Small shapes of both families, odd where they may be. */
enum { FIXTURE_LAYERS = 4, FIXTURE_VOCAB = 97, FIXTURE_D = 48, FIXTURE_POSITIONS = 160 };
extern const struct sl_model_config fixture_llama, fixture_gpt2;
