#include "tests/tensor/twin.h"
#include "trainer/tensor/rope.h"

#include <math.h>
#include <stdlib.h>

static void rope__turns_pairs_by_the_position_and_back(void **state)
{
    enum { HD = 14, HEADS = 2, POSITION = 129 };
    float table[130 * HD], *x = twin_data("x", HEADS * HD, 1), *y = twin_data("x", HEADS * HD, 1);
    double turned[HEADS * HD], same[HEADS * HD];
    sl_rope_table(10000, 130, HD, table);
    for (int i = 0; i < HEADS * HD; i++)
        same[i] = x[i];
    for (int h = 0; h < HEADS; h++) {
        for (int j = 0; j < HD / 2; j++) {
            double angle = POSITION / pow(10000, 2.0 * j / HD), a = x[h * HD + j], b = x[h * HD + HD / 2 + j];
            turned[h * HD + j] = a * cos(angle) - b * sin(angle);
            turned[h * HD + HD / 2 + j] = b * cos(angle) + a * sin(angle);
        }
    }
    sl_rope(y, HEADS, HD, table + POSITION * HD, 0);
    twin_close(y, turned, HEADS * HD, 2e-5, "forward"); /* the angle is rounded to f32 */
    sl_rope(y, HEADS, HD, table + POSITION * HD, 1);
    twin_close(y, same, HEADS * HD, 1e-6, "back");
    free(x);
    free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rope__turns_pairs_by_the_position_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
