/* config.json: what is accepted can be computed with, and survives being written and read again. */
#include "trainer/model/config.h"

#include <stdlib.h>
#include <string.h>

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const char *const seeds[] = {
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":64,\"num_"
        "attention_heads\":4,"
        "\"num_key_value_heads\":2,\"head_dim\":14,\"rms_norm_eps\":1e-5,\"rope_theta\":500000.0,\"rope_"
        "scaling\":null,"
        "\"vocab_size\":128,\"bos_token_id\":1,\"eos_token_id\":[2,3],\"tie_word_embeddings\":true,"
        "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":10000},\"sliding_window\":null}",
        "{\"model_type\":\"gpt2\",\"n_embd\":48,\"n_head\":4,\"n_layer\":2,\"n_inner\":null,\"n_positions\":"
        "64,"
        "\"activation_function\":\"gelu_new\",\"layer_norm_epsilon\":1e-05,\"vocab_size\":300,\"bos_token_"
        "id\":null}"};
    if (index >= 2)
        return 0;
    size_t n = strlen(seeds[index]);
    memcpy(buf, seeds[index], n);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_model_config c, again;
    char err[256], *text;
    size_t len;
    if (sl_model_config_parse((const char *)data, size, &c, err, sizeof err))
        return 0;
    if (!c.n_layers || !c.vocab || !c.d_ff || !c.max_positions || c.n_heads % c.n_kv_heads || !c.head_dim ||
        (c.family == SL_FAMILY_GPT2 && c.n_heads * c.head_dim != c.d_model) ||
        (c.family == SL_FAMILY_LLAMA && (c.head_dim % 2 || !(c.rope_theta > 0))))
        abort();
    if (sl_model_config_json(&c, "float32", &text, &len))
        abort();
    if (sl_model_config_parse(text, len, &again, err, sizeof err) || c.n_layers != again.n_layers ||
        c.head_dim != again.head_dim || c.norm_eps != again.norm_eps || c.rope_theta != again.rope_theta ||
        c.d_ff != again.d_ff || c.bos_id != again.bos_id || c.eos_id != again.eos_id)
        abort();
    free(text);
    return 0;
}
