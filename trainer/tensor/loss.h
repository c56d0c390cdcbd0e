/* Softmax cross-entropy in nats, of the SUM over rows (rules L2). Pure functions over the caller's scratch.
 */
#pragma once

#include "trainer/tensor/view.h"

/* Loss of rows x [rows, d] through a head's matrix [d, vocab] packed in tiles of the vocabulary, without the
 * logits in memory: each tile's are exponentiated under a running maximum and multiplied by the tile at once,
 * and what has been added up is scaled down when the maximum moves (online softmax, arXiv 1805.02867; the
 * gradient is attention with the head's rows as keys and values, arXiv 2205.14135). So a row and a word of
 * the vocabulary cost two products' arithmetic with the gradient, one without. */

/* Bytes, 64-byte aligned, for up to max_rows rows. */
size_t sl_head_loss_scratch(const struct sl_packed *head, uint32_t d, enum sl_precision, uint32_t max_rows);
/* nll[rows]; dx [rows, d], the gradient with respect to x, or NULL: not wanted (then the head need not be
 * packed for backward). x: dense, of the head's precision. room: rows that x and dx have memory for, as in
 * struct sl_product. targets: below vocab. 0 or -ENOMEM, as the products. */
int sl_head_loss(const struct sl_packed *head, uint32_t d, struct sl_src x, uint32_t rows, uint32_t room,
    const uint32_t *targets, double *nll, float *dx, void *scratch);

/* The plain way, in two steps, with all logits at hand. logits [rows, vocab], targets below vocab. nll[rows]
 * (may alias nothing); where `backward`, logits become their own gradient, softmax - onehot(target). */
void sl_cross_entropy(
    float *logits, const uint32_t *targets, uint32_t rows, uint32_t vocab, int backward, double *nll);
