#include "trainer/experiment/experiment.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_experiment *e = malloc(sizeof *e);
    char err[256] = "";

    if (sl_experiment_parse((const char *)data, size, "fuzz.yaml", e, err, sizeof err) != 0 && err[0] == 0)
        abort(); /* every refusal has a sentence */
    free(e);
    return 0;
}
