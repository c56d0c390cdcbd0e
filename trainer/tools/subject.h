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

/* The option that says in what arithmetic. */
#define SL_PRECISION_OPT(member)                                                                             \
    {                                                                                                        \
        "precision", SL_OPT_WORD, &(member), "P",                                                            \
            "arithmetic: f32 or bf16 (default f32; f32, too, where the CPU has no bf16)", 0, 0, 0, 0         \
    }
/* Loads DIR, packed for the arithmetic (`precision`: as the option gives it, NULL: f32), the adapter of
 * another directory (or NULL) and, where `tokenizer`, DIR/tokenizer.json. Says on stderr where the CPU lacks
 * the precision. */
int sl_subject_load(const char *dir, const char *precision, const char *adapter, bool tokenizer,
    struct sl_subject *, char *err, size_t err_cap);
void sl_subject_free(struct sl_subject *);
