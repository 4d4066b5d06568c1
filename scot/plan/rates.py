"""What work costs at least, and what was measured, each with where it comes from.

Bounds are arithmetic over a peak: no run is faster, most are slower. What was measured carries its machine.
"""

from __future__ import annotations

from typing import Final

BYTES_PER_TOKEN: Final = 4  # of English: a rule of thumb, good to about a fifth

# ---- GPU bounds ----
PEAK_FLOPS: Final = 790e12  # what large dense bf16 products reach on one H100 or H200, of 989e12 on its data sheet
LLM_PARAMETERS: Final = {
    "tiiuae/falcon-7b": 6.92e9,
    "tiiuae/falcon-7b-instruct": 6.92e9,
    "smollm2": 0.135e9,
    "catalogue-falcon": 2.42e6,
    "EleutherAI/gpt-neo-2.7B": 2.7e9,  # by its name
}
PUBLISHED_BYTES: Final = 2  # of a weight in the 16-bit files of a hub
ADAPTER_BYTES_PER_RANK: Final = 63_744 * 32 * 4  # on Falcon-7B: both sides of four matrices, 32 layers, float32
FORWARD: Final = 2  # FLOPs a parameter and token
TUNING: Final = 6  # forward, again while checkpointing, and backward to the activations; frozen weights get no gradient
IMAGE_FLOPS: Final = {  # image tower at its own resolution, FLOPs an image, as torch.utils.flop_counter counts them
    "clip-b32": 8.8e9,
    "clip-l14": 162e9,
    "blip": 111e9,
    "blip2": 533e9,  # ViT-g/14 at 224 px: 521, Q-Former: 12
    "lavis-blip2": 533e9,
    "siglip2": 35.4e9,
    "catalogue": 0.0225e9,
    "catalogue-whole": 0.0225e9,
}
VECTOR_DIM: Final = {
    "catalogue": 128,
    "catalogue-whole": 128,
    "clip-b32": 512,
    "clip-l14": 768,
    "blip": 256,
    "blip2": 256,
    "lavis-blip2": 256,
    "siglip2": 768,
}

TEXT_WEIGHTS: Final = {  # of a text tower's layers, which every token meets: 12 layers of 12 x width^2
    "clip-b32": 12 * 12 * 512**2,
    "clip-l14": 12 * 12 * 768**2,
}
WORD_DIM: Final = {"catalogue": 96, "catalogue-whole": 96, "clip-b32": 512, "clip-l14": 768}
TEMPLATE_TOKENS, PHRASE_TOKENS = 8, 25  # of a template and of a phrase, about
BACKWARD: Final = 3  # forward, and back to the activations; a frozen tower's weights get no gradient: as two forward

# ---- measured ----
JPEGS_PER_CORE_SECOND: Final = 150  # decoded and resized, COCO's size; 13 at 1600 px
CATALOGUE_PER_SECOND: Final = {  # profile catalogue on two cores: rows or steps in a second
    "draw": 980.0,
    "ask": 270.0,
    "tune": 2.6,
    "write": 200.0,
    "images": 2600.0,
    "texts": 8300.0,
    "train": 32.0,
    "phrases": 200.0,
    "invert": 2400.0,  # images times steps, of one core
    "distill": 11.0,  # of one core
}

KEPT: Final = {  # share of replies that are triplets, where no lake says: people's triplets through the lenient filter
    "seed": 0.957,
    "generate": 0.67,  # of one try of the catalogue's tuned Falcon: of larger models nothing is known here
}
FITTED_PER_SECOND: Final = {"images": 55.0, "steps": 10.0, "from nothing": 3.5}  # stage fit, EfficientNet-Lite0, a core
FEATURES: Final = 3056  # numbers that it gives for a picture

REPLY_BYTES: Final = 58  # of a row of replies, and of triplets or rejects, compressed: profile catalogue
TRIPLET_BYTES: Final = 60

# ---- published sizes: images with captions and GB of the archives, from each data set's own site ----
COCO_IMAGES: Final = {
    ("2017", "train"): 118_287,
    ("2017", "val"): 5_000,
    ("2014", "train"): 82_783,
    ("2014", "val"): 40_504,
}
IMAGES: Final = {"flickr30k": 31_783, "abo": 147_702}  # abo: its listings, in all languages, each with a main image
CAPTIONS_PER_IMAGE: Final = {"coco": 5, "flickr30k": 5, "abo": 1}
IMAGE_BYTES: Final = {  # coco: 18 GB of 2017 train; flickr30k: 4.4 GB; abo: 3 GB, all small images
    "coco": 18e9 / 118_287,
    "flickr30k": 4.4e9 / 31_783,
    "abo": 3e9 / 398_212,
}
CATALOGUE_IMAGE_BYTES: Final = 6_000
BENCHMARK_IMAGES: Final = {"fashioniq": 15_415, "cirr": 2_297, "cirr-test1": 2_315, "circo": 123_403, "circo-test": 0}
