/* Softmax cross-entropy in nats, of the SUM over rows (rules L2). Pure function. */
#pragma once

#include <stdint.h>

/* logits [rows, vocab], targets below vocab. nll[rows] (may alias nothing); where `backward`, logits become
 * their own gradient, softmax - onehot(target). */
void sl_cross_entropy(
    float *logits, const uint32_t *targets, uint32_t rows, uint32_t vocab, int backward, double *nll);
