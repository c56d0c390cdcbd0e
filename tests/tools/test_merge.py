#!/usr/bin/python3
"""sluice-train merge against PyTorch: the merged model's logits are base and adapter's, in both families and all dtypes.

The models are those of tests/model/reference.py, which writes down what Hugging Face's modelling files define."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT, TRAIN = sys.argv[1], sys.argv[2]
sys.path.insert(0, os.path.join(ROOT, "tests", "model"))
try:
    import numpy as np
    import torch
    import reference
except ImportError as e:
    print(f"SKIP: {e.name} for Python (Debian: python3-torch)")
    sys.exit(77)

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CASES = {"llama_tied": "llama_6_2_tied", "llama_untied": "llama_8_4_untied", "gpt2_tied": "gpt2_tied", "gpt2_untied": "gpt2_untied"}


def write_safetensors(path, tensors):
    header, blob = {}, b""
    for name, t in tensors.items():
        data = t.detach().numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [len(blob), len(blob) + len(data)]}
        blob += data
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + blob)


def read_safetensors(path):
    with open(path, "rb") as f:
        image = f.read()
    n = struct.unpack("<Q", image[:8])[0]
    header, data = json.loads(image[8:8 + n]), image[8 + n:]
    header.pop("__metadata__", None)
    return {k: torch.frombuffer(bytearray(data[v["data_offsets"][0]:v["data_offsets"][1]]), dtype=DTYPES[v["dtype"]]).reshape(v["shape"])
            for k, v in header.items()}


def config_of(c):
    if c["family"] is reference.Llama:
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": c["d"], "head_dim": c["hd"],
                "intermediate_size": c["ff"], "max_position_embeddings": c["positions"], "num_attention_heads": c["heads"],
                "num_hidden_layers": c["layers"], "num_key_value_heads": c["kv"], "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
                "tie_word_embeddings": c["tied"], "vocab_size": c["vocab"], "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"}
    return {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "n_embd": c["d"], "n_head": c["heads"],
            "n_layer": c["layers"], "n_positions": c["positions"], "n_inner": c["ff"], "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": c["tied"], "vocab_size": c["vocab"], "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32"}


def write_case(folder, c, run):
    base, adapter = os.path.join(folder, "base"), os.path.join(folder, "adapter")
    os.makedirs(base)
    os.makedirs(adapter)
    write_safetensors(os.path.join(base, "model.safetensors"), run.w)
    config = config_of(c)
    with open(os.path.join(base, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    for name, text in (("tokenizer.json", '{"not": "looked into"}'), ("generation_config.json", '{"do_sample": true}')):
        with open(os.path.join(base, name), "w", encoding="utf-8") as f:
            f.write(text)
    tensors = {}
    for path, (a, b, _) in run.lora.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = a
        tensors[f"base_model.model.{path}.lora_B.weight"] = b
    write_safetensors(os.path.join(adapter, "adapter_model.safetensors"), tensors)
    modules = sorted({".".join(p.split(".")[-2:]) for p in run.lora})
    with open(os.path.join(adapter, "adapter_config.json"), "w", encoding="utf-8") as f:
        json.dump({"peft_type": "LORA", "r": reference.RANK, "lora_alpha": reference.ALPHA, "target_modules": modules, "bias": "none",
                   "task_type": "CAUSAL_LM", "fan_in_fan_out": c["family"] is reference.Gpt2}, f)
    return base, adapter, config


def merge(base, adapter, out, *extra):
    return subprocess.run([TRAIN, "merge", "--model", base, "--adapter", adapter, "--out", out, *extra], capture_output=True, text=True, check=False)


def check(name, folder):
    c = reference.CASES[CASES[name]]
    run = reference.Run(c, torch.float32, True)
    base, adapter, config = write_case(folder, c, run)
    ids = torch.from_numpy(reference.token_ids(3, "merge", c["vocab"], 61))
    wide = {k: v.double() for k, v in run.w.items()}
    lora = {k: (a.double(), b.double(), s) for k, (a, b, s) in run.lora.items()}
    with torch.no_grad():
        want = run.model.forward(wide, lora, ids)
        plain = run.model.forward(wide, {}, ids)
        assert (want - plain).abs().max() > 1e-2 * want.abs().max(), "the adapter changes nothing"
        for dtype, torch_name, bound in (("f32", "float32", 1e-5), ("bf16", "bfloat16", 0.05), ("f16", "float16", 0.01)):
            out = os.path.join(folder, dtype)
            done = merge(base, adapter, out, "--dtype", dtype, "--json")
            assert done.returncode == 0, done.stderr
            said = json.loads(done.stdout)
            merged = read_safetensors(os.path.join(out, "model.safetensors"))
            assert set(merged) == set(run.w), set(merged) ^ set(run.w)
            got = run.model.forward({k: v.double() for k, v in merged.items()}, {}, ids)
            off = ((got - want).abs().max() / want.abs().max()).item()
            assert off <= bound, (name, dtype, off)
            if dtype != "f32":  # the rounding that it states is the one that is there
                rounding = weights = change = 0.0
                for path, (a, b, s) in lora.items():
                    delta = s * (b @ a)
                    delta = delta if c["family"] is reference.Llama else delta.T
                    exact = wide[path + ".weight"] + delta
                    rounding += (merged[path + ".weight"].double() - exact).pow(2).sum().item()
                    weights += exact.pow(2).sum().item()
                    change += delta.pow(2).sum().item()
                assert abs(said["rounding_of_weights"] / (rounding / weights) ** 0.5 - 1) < 1e-2, (said, (rounding / weights) ** 0.5)
                assert abs(said["rounding_of_change"] / (rounding / change) ** 0.5 - 1) < 1e-2, said
            else:
                assert said["rounding_of_weights"] == 0, said
            with open(os.path.join(out, "config.json"), encoding="utf-8") as f:
                assert json.load(f) == {**config, "torch_dtype": torch_name}
            for file in ("tokenizer.json", "generation_config.json"):
                with open(os.path.join(base, file), "rb") as a, open(os.path.join(out, file), "rb") as b:
                    assert a.read() == b.read()
            assert sorted(os.listdir(out)) == ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"], os.listdir(out)
            print(f"ok {name} {dtype}: logits differ by {off:.2g} of the largest")
    refused = merge(base, adapter, os.path.join(folder, "f32"))
    assert refused.returncode == 1 and "nothing is overwritten" in refused.stderr, refused.stderr
    refused = merge(base, folder, os.path.join(folder, "new"))
    assert refused.returncode == 1 and not os.path.exists(os.path.join(folder, "new")), refused.stderr
    assert not [n for n in os.listdir(folder) if ".part-" in n], os.listdir(folder)
    return base, adapter


def check_peft(base, adapter):
    """Where PEFT and transformers are installed, they load what we wrote, and compute the same."""
    try:
        import peft
        import transformers
    except ImportError as e:
        print(f"SKIP: loading with PEFT itself needs {e.name} for Python")
        return
    model = transformers.AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float32)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        apart = peft.PeftModel.from_pretrained(model, adapter)(ids).logits
        merged = transformers.AutoModelForCausalLM.from_pretrained(os.path.join(os.path.dirname(base), "f32"), torch_dtype=torch.float32)(ids).logits
    assert ((apart - merged).abs().max() / apart.abs().max()).item() <= 1e-5
    print("ok PEFT")


def main():
    torch.set_num_threads(1)
    for name in CASES:
        folder = tempfile.mkdtemp(prefix="sluice-test-merge-")
        try:
            base, adapter = check(name, folder)
            if name.endswith("_tied"):
                check_peft(base, adapter)
        finally:
            shutil.rmtree(folder)


main()
