#include "tests/bench/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLUMN = 44 };

static void print_number(double v)
{
    if (v == floor(v) && fabs(v) < 1e15)
        printf("%.0f", v);
    else
        printf("%.4g", v);
}

static void print_value(const cJSON *v)
{
    if (cJSON_IsNumber(v))
        print_number(v->valuedouble);
    else if (cJSON_IsString(v))
        fputs(v->valuestring, stdout);
    else
        fputs(cJSON_IsTrue(v) ? "yes" : cJSON_IsFalse(v) ? "no" : "-", stdout);
}

static void print(const cJSON *j, int depth)
{
    const cJSON *at;
    cJSON_ArrayForEach(at, j)
    {
        const char *name = at->string != NULL ? at->string : "-";
        int used = printf("%*s%s", 2 * depth, "", name);
        bool nested = cJSON_IsObject(at), list = cJSON_IsArray(at);
        if (nested || (list && at->child != NULL && !cJSON_IsNumber(at->child))) {
            putchar('\n');
            print(at, depth + 1);
            continue;
        }
        printf("%*s", used < COLUMN ? COLUMN - used : 1, "");
        if (list) {
            const cJSON *v;
            cJSON_ArrayForEach(v, at)
            {
                print_value(v);
                fputs(v->next != NULL ? " " : "", stdout);
            }
        } else {
            print_value(at);
        }
        putchar('\n');
    }
}

void bench_report(const cJSON *j, bool as_json)
{
    if (!as_json) {
        print(j, 0);
        return;
    }
    char *text = cJSON_Print(j);
    puts(text != NULL ? text : "{}");
    free(text);
}
