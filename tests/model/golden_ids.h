/* Golden lines of tokenizer_reference.py: hex of the text ("-": none), a tab, ids. */
#pragma once

#include "trainer/model/tokenizer.h"

/* Encodes every case of golden/tokenizers/NAME.golden and fails the test at the first that differs. Returns
 * how many. */
unsigned golden_ids_check(const struct sl_tokenizer *, const char *name);
