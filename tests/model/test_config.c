#include "trainer/model/config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LLAMA "{\"model_type\":\"llama\",\"vocab_size\":100,\"bos_token_id\":1,\"eos_token_id\":2"
#define GPT2 "{\"model_type\":\"gpt2\",\"vocab_size\":100,\"bos_token_id\":1,\"eos_token_id\":2"

static struct sl_model_config parse(const char *json)
{
    struct sl_model_config c;
    char err[256] = "";
    if (sl_model_config_parse(json, strlen(json), &c, err, sizeof err))
        fail_msg("%s: %s", json, err);
    return c;
}

static void refused(const char *json, const char *key)
{
    struct sl_model_config c;
    char err[256] = "";
    if (sl_model_config_parse(json, strlen(json), &c, err, sizeof err) != -EINVAL)
        fail_msg("%s: not refused", json);
    if (!strstr(err, key) || strchr(err, '\n'))
        fail_msg("%s: \"%s\" does not name %s", json, err, key);
}

/* LlamaConfig() and GPT2Config() of Hugging Face's transformers. */
static void parse__absent_keys_take_hugging_faces_defaults(void **state)
{
    struct sl_model_config c = parse("{\"architectures\":[\"LlamaForCausalLM\"]}");
    assert_int_equal(c.family, SL_FAMILY_LLAMA);
    assert_int_equal(c.vocab, 32000);
    assert_int_equal(c.d_model, 4096);
    assert_int_equal(c.d_ff, 11008);
    assert_int_equal(c.n_layers, 32);
    assert_int_equal(c.n_heads, 32);
    assert_int_equal(c.n_kv_heads, 32);
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.max_positions, 2048);
    assert_true(c.norm_eps == 1e-6f && c.rope_theta == 10000.0f);
    assert_false(c.tied_embeddings);
    assert_int_equal(c.bos_id, 1);
    assert_int_equal(c.eos_id, 2);
    c = parse("{\"model_type\":\"gpt2\"}");
    assert_int_equal(c.family, SL_FAMILY_GPT2);
    assert_int_equal(c.vocab, 50257);
    assert_int_equal(c.d_model, 768);
    assert_int_equal(c.d_ff, 3072);
    assert_int_equal(c.n_layers, 12);
    assert_int_equal(c.n_heads, 12);
    assert_int_equal(c.head_dim, 64);
    assert_int_equal(c.max_positions, 1024);
    assert_true(c.norm_eps == 1e-5f);
    assert_true(c.tied_embeddings);
    assert_int_equal(c.bos_id, 50256);
}

static void parse__keys(void **state)
{
    struct sl_model_config c = parse(LLAMA
        ",\"hidden_size\":60,\"num_attention_heads\":6,\"num_key_value_heads\":2,\"head_dim\":14,"
        "\"intermediate_size\":77,\"num_hidden_layers\":3,\"rms_norm_eps\":1e-5,\"rope_theta\":500000,"
        "\"tie_word_embeddings\":true,\"max_position_embeddings\":64,\"rope_scaling\":null,"
        "\"attention_bias\":false,\"sliding_window\":4096,\"use_sliding_window\":false,\"some_note\":\"x\"}");
    assert_int_equal(c.d_model, 60);
    assert_int_equal(c.head_dim, 14);
    assert_int_equal(c.n_kv_heads, 2);
    assert_int_equal(c.d_ff, 77);
    assert_true(c.rope_theta == 500000.0f);
    assert_true(c.tied_embeddings);
    assert_int_equal(parse(LLAMA ",\"hidden_size\":64,\"num_attention_heads\":4}").n_kv_heads, 4);
    assert_int_equal(
        parse("{\"model_type\":\"llama\",\"eos_token_id\":[5,6],\"bos_token_id\":null}").eos_id, 5);
    assert_int_equal(parse("{\"model_type\":\"llama\",\"bos_token_id\":null}").bos_id, -1);
    assert_true(
        parse(LLAMA ",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1e6}}").rope_theta ==
        1e6f);
    assert_int_equal(parse(GPT2 ",\"n_inner\":null,\"n_embd\":48,\"n_head\":4}").d_ff, 192);
    assert_int_equal(parse(GPT2 ",\"activation_function\":\"gelu_pytorch_tanh\"}").n_layers, 12);
    /* the default end token of the big vocabulary is no token of a small one */
    assert_int_equal(parse("{\"model_type\":\"gpt2\",\"vocab_size\":100}").eos_id, -1);
}

static void parse__refuses_by_name(void **state)
{
    static const char *const llama[][2] = {{"rope_scaling", "{\"type\":\"linear\",\"factor\":2}"},
        {"rope_parameters", "{\"rope_type\":\"yarn\",\"rope_theta\":1e4}"}, {"sliding_window", "128"},
        {"use_sliding_window", "true"}, {"attention_bias", "true"}, {"mlp_bias", "true"},
        {"hidden_act", "\"gelu\""}, {"quantization_config", "{\"bits\":4}"}, {"partial_rotary_factor", "0.5"},
        {"rope_theta", "\"1e4\""}, {"rms_norm_eps", "-1"}, {"rms_norm_eps", "1e999"}, {"head_dim", "7"},
        {"num_key_value_heads", "3"}, {"num_attention_heads", "0"}, {"num_hidden_layers", "1.5"},
        {"num_hidden_layers", "99999999"}, {"hidden_size", "\"64\""}, {"hidden_size", "100"},
        {"tie_word_embeddings", "1"}, {"max_position_embeddings", "-5"}, {"final_logit_softcapping", "30"},
        {"num_local_experts", "8"}, {"auto_map", "{\"AutoModel\":\"x.Y\"}"},
        {"layer_types", "[\"full_attention\",\"sliding_attention\"]"}, {"embedding_multiplier", "12"}};
    static const char *const gpt2[][2] = {{"activation_function", "\"relu\""},
        {"scale_attn_by_inverse_layer_idx", "true"}, {"scale_attn_weights", "false"},
        {"add_cross_attention", "true"}, {"n_head", "7"}, {"n_embd", "0"}};
    char json[512];
    for (unsigned i = 0; i < sizeof llama / sizeof *llama; i++) {
        snprintf(json, sizeof json, LLAMA ",\"%s\":%s}", llama[i][0], llama[i][1]);
        refused(json, llama[i][0]);
    }
    for (unsigned i = 0; i < sizeof gpt2 / sizeof *gpt2; i++) {
        snprintf(json, sizeof json, GPT2 ",\"%s\":%s}", gpt2[i][0], gpt2[i][1]);
        refused(json, gpt2[i][0]);
    }
}

static void parse__refuses_other_models(void **state)
{
    refused("{\"model_type\":\"qwen2\",\"architectures\":[\"Qwen2ForCausalLM\"]}", "qwen2");
    refused("{\"model_type\":\"mistral\"}", "mistral");
    refused("{\"architectures\":[\"BertModel\"]}", "BertModel");
    refused("{\"model_type\":\"llama\",\"architectures\":[\"LlamaForSequenceClassification\"]}",
        "LlamaForSequenceClassification");
    refused("{\"model_type\":\"gpt2\",\"architectures\":[\"LlamaForCausalLM\"]}", "LlamaForCausalLM");
    refused("{}", "model_type");
    refused("[]", "object");
    refused("{\"model_type\":\"llama\"", "JSON");
    refused("{\"model_type\":\"llama\",\"eos_token_id\":40000}", "eos_token_id");
}

static void json__reads_back_the_same(void **state)
{
    const struct sl_model_config configs[] = {{.family = SL_FAMILY_LLAMA,
                                                  .n_layers = 8,
                                                  .d_model = 192,
                                                  .n_heads = 6,
                                                  .n_kv_heads = 2,
                                                  .head_dim = 32,
                                                  .d_ff = 512,
                                                  .vocab = 2048,
                                                  .max_positions = 1024,
                                                  .norm_eps = 1e-5f,
                                                  .rope_theta = 12345.6789f,
                                                  .tied_embeddings = true,
                                                  .bos_id = 0,
                                                  .eos_id = 0},
        {.family = SL_FAMILY_LLAMA,
            .n_layers = 1,
            .d_model = 60,
            .n_heads = 6,
            .n_kv_heads = 3,
            .head_dim = 14,
            .d_ff = 1,
            .vocab = 9,
            .max_positions = 7,
            .norm_eps = 1.23456789e-7f,
            .rope_theta = 1e6f,
            .bos_id = -1,
            .eos_id = 8},
        {.family = SL_FAMILY_GPT2,
            .n_layers = 2,
            .d_model = 48,
            .n_heads = 4,
            .n_kv_heads = 4,
            .head_dim = 12,
            .d_ff = 100,
            .vocab = 300,
            .max_positions = 33,
            .norm_eps = 1e-5f,
            .tied_embeddings = false,
            .bos_id = 299,
            .eos_id = -1}};
    for (unsigned i = 0; i < 3; i++) {
        char *text;
        size_t len;
        assert_int_equal(sl_model_config_json(&configs[i], "float32", &text, &len), 0);
        struct sl_model_config c = parse(text), want = configs[i];
        assert_int_equal(c.family, want.family);
        assert_int_equal(c.n_layers, want.n_layers);
        assert_int_equal(c.d_model, want.d_model);
        assert_int_equal(c.n_heads, want.n_heads);
        assert_int_equal(c.n_kv_heads, want.n_kv_heads);
        assert_int_equal(c.head_dim, want.head_dim);
        assert_int_equal(c.d_ff, want.d_ff);
        assert_int_equal(c.vocab, want.vocab);
        assert_int_equal(c.max_positions, want.max_positions);
        assert_true(c.norm_eps == want.norm_eps && c.rope_theta == want.rope_theta);
        assert_int_equal(c.tied_embeddings, want.tied_embeddings);
        assert_int_equal(c.bos_id, want.bos_id);
        assert_int_equal(c.eos_id, want.eos_id);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__absent_keys_take_hugging_faces_defaults),
        cmocka_unit_test(parse__keys),
        cmocka_unit_test(parse__refuses_by_name),
        cmocka_unit_test(parse__refuses_other_models),
        cmocka_unit_test(json__reads_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
