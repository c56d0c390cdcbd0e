/* Rotary positions (arXiv 2104.09864) in Hugging Face's layout: element j of a head turns with element j +
 * head_dim/2. The angles are rounded to f32 as Hugging Face rounds them: at high positions exact angles would
 * differ visibly. */
#pragma once

#include <stdint.h>

/* table [positions, head_dim]: cos of the head_dim/2 angles, then their sin. */
void sl_rope_table(float theta, uint32_t positions, uint32_t head_dim, float *table);
