/* The model that a subcommand works on, with its adapter and tokenizer. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/model.h"
#include "trainer/model/tokenizer.h"

struct sl_subject {
    struct sl_model *model;
    struct sl_adapter *adapter; /* NULL: none */
    struct sl_tokenizer *tok;   /* NULL: not asked for */
};

/* Loads DIR, the adapter of another directory (or NULL) and, where `tokenizer`, DIR/tokenizer.json. */
int sl_subject_load(
    const char *dir, const char *adapter, bool tokenizer, struct sl_subject *, char *err, size_t err_cap);
void sl_subject_free(struct sl_subject *);
