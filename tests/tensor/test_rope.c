#include "tests/tensor/twin.h"
#include "trainer/tensor/rope.h"

#include <math.h>

/* Attention applies the table; tests/tensor/test_golden.c compares that with PyTorch's. */
static void rope_table__is_the_angles_of_its_definition(void **state)
{
    enum { HD = 14, POSITIONS = 130 };
    float table[POSITIONS * HD];
    double exact[POSITIONS * HD];
    sl_rope_table(10000, POSITIONS, HD, table);
    for (int p = 0; p < POSITIONS; p++) {
        for (int j = 0; j < HD / 2; j++) {
            double angle = p / pow(10000, 2.0 * j / HD);
            exact[p * HD + j] = cos(angle);
            exact[p * HD + HD / 2 + j] = sin(angle);
        }
    }
    twin_close(table, exact, POSITIONS * HD, 1e-5, "table"); /* the angle is rounded to f32 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rope_table__is_the_angles_of_its_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
