#include "trainer/tools/subject.h"

#include "trainer/model/peft.h"
#include "trainer/tools/input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load_model(
    const char *dir, const char *precision, struct sl_model **out, char *err, size_t err_cap)
{
    bool bf16 = precision && strcmp(precision, "bf16") == 0;
    if (precision && !bf16 && strcmp(precision, "f32") != 0) {
        snprintf(err, err_cap, "--precision is f32 or bf16");
        return -EINVAL;
    }
    enum sl_precision wanted = bf16 ? SL_PRECISION_BF16 : SL_PRECISION_F32;
    int rc = sl_model_load_packed(dir, 0, UINT32_MAX, wanted, out, err, err_cap);
    if (!rc && bf16)
        fprintf(stderr, "arithmetic: %s\n", sl_precision_told(wanted, sl_model_precision(*out)));
    return rc;
}

int sl_subject_load(const char *dir, const char *precision, const char *adapter, bool tokenizer,
    struct sl_subject *subject, char *err, size_t err_cap)
{
    *subject = (struct sl_subject){0};
    int rc = load_model(dir, precision, &subject->model, err, err_cap);
    if (!rc && adapter)
        rc = sl_peft_load(adapter, sl_model_config(subject->model), &subject->adapter, err, err_cap);
    if (!rc && tokenizer) {
        char *file;
        if (asprintf(&file, "%s/tokenizer.json", dir) < 0) {
            snprintf(err, err_cap, "out of memory");
            rc = -ENOMEM;
        } else {
            rc = sl_input_tokenizer(file, sl_model_config(subject->model), &subject->tok, err, err_cap);
            free(file);
        }
    }
    if (rc)
        sl_subject_free(subject);
    return rc;
}

void sl_subject_free(struct sl_subject *subject)
{
    sl_tokenizer_free(subject->tok);
    sl_adapter_free(subject->adapter);
    sl_model_free(subject->model);
    *subject = (struct sl_subject){0};
}
