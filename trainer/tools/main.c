/* sluice-train: everything that one process does with a model alone, and the yardstick for the split. */
#include "trainer/tools/commands.h"

#include <stdio.h>
#include <string.h>

static const struct sl_command *const commands[] = {
    &sl_eval_command,
    &sl_merge_command,
    &sl_lora_command,
    &sl_fedlora_command,
    &sl_pretrain_command,
    &sl_tokenizer_command,
    &sl_generate_command,
    &sl_encode_command,
    &sl_overlap_command,
    &sl_stability_command,
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *out)
{
    fprintf(out, "usage: sluice-train COMMAND [options]\n\nCommands (each has --help, with examples):\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const char *summary = commands[i]->summary;
        fprintf(out, "  %-10s ", commands[i]->name);
        fwrite(summary, 1, strcspn(summary, "\n"), out); /* its first line */
        fputc('\n', out);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return SL_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return SL_EXIT_OK;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i]->name) == 0)
            return commands[i]->run(argc - 1, argv + 1);
    }
    fprintf(stderr, "sluice-train: unknown command \"%s\" (see sluice-train --help)\n", argv[1]);
    return SL_EXIT_USAGE;
}
