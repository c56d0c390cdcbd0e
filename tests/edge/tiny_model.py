"""A tiny Llama directory, written by hand: config.json and model.safetensors in f32, from a fixed seed."""
import json
import os
import random
import struct


def write(folder, layers=3, d=32, heads=4, kv=2, ff=64, vocab=97, seed=1):
    os.makedirs(folder, exist_ok=True)
    rng = random.Random(seed)
    head = d // heads
    shapes = {"model.embed_tokens.weight": [vocab, d], "model.norm.weight": [d]}
    for i in range(layers):
        p = f"model.layers.{i}."
        shapes |= {p + "input_layernorm.weight": [d], p + "post_attention_layernorm.weight": [d],
                   p + "self_attn.q_proj.weight": [d, d], p + "self_attn.k_proj.weight": [kv * head, d],
                   p + "self_attn.v_proj.weight": [kv * head, d], p + "self_attn.o_proj.weight": [d, d],
                   p + "mlp.gate_proj.weight": [ff, d], p + "mlp.up_proj.weight": [ff, d], p + "mlp.down_proj.weight": [d, ff]}
    header, blob = {}, b""
    for name, shape in shapes.items():
        n = 1
        for size in shape:
            n *= size
        values = [1.0] * n if len(shape) == 1 else [rng.gauss(0, 0.05) for _ in range(n)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(blob), len(blob) + 4 * n]}
        blob += struct.pack(f"<{n}f", *values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + blob)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": d,
              "intermediate_size": ff, "max_position_embeddings": 128, "num_attention_heads": heads, "num_hidden_layers": layers,
              "num_key_value_heads": kv, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
              "vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
