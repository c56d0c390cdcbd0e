#include "trainer/tools/subject.h"

#include "trainer/model/peft.h"
#include "trainer/tools/input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int sl_subject_load(const char *dir, const char *adapter, bool tokenizer, struct sl_subject *subject,
    char *err, size_t err_cap)
{
    *subject = (struct sl_subject){0};
    int rc = sl_model_load(dir, &subject->model, err, err_cap);
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
