"""Embed the samples with LAVIS as its documentation says, with no line of Scot, from files where it caches downloads.

python tests/lavis/embed_stock.py ENCODER FOLDER OUT.npz
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from lavis.models import load_model_and_preprocess
from PIL import Image


def main(name: str, folder: Path, out: Path) -> None:
    checkpoints = folder / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for file in (folder / name).glob("*.pth"):
        (checkpoints / file.name).symlink_to(file)
    os.environ["TORCH_HOME"] = str(folder / "torch")
    os.chdir(folder / name)  # where transformers finds bert-base-uncased as a folder
    torch.save({}, "bert-base-uncased/pytorch_model.bin")  # BERT's own weights, which the checkpoint replaces
    model, vis_processors, txt_processors = load_model_and_preprocess("blip2", "pretrain", is_eval=True, device="cpu")

    pictures = [Image.open(path).convert("RGB") for path in sorted((folder / "samples").glob("[0-9]*"))]
    captions = [txt_processors["eval"](text) for text in json.loads((folder / "samples" / "captions.json").read_text())]
    captions = [text for text in captions if len(model.tokenizer(text).input_ids) <= 512]  # LAVIS fails beyond BERT's
    images = torch.stack([vis_processors["eval"](picture) for picture in pictures])
    tokens = model.extract_features({"image": images}, mode="image").image_embeds_proj
    texts = model.extract_features({"text_input": captions}, mode="text").text_embeds_proj
    np.savez(out, tokens=tokens.numpy(), texts=texts[:, 0].numpy())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
