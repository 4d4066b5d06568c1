"""EfficientNet-Lite0 (ImageNet, Apache-2.0) as an image tower: 4.7 M parameters, 70 pictures a second on one core.

The network is that of package efficientnet-lite-pytorch; its batch norms are folded into the convolutions. Features are
the last map's means and maxima, and the means of the maps that four earlier strides end in, which still know colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scot_core.encoders.halves.folders import LITE, json_of
from scot_core.encoders.halves.pictures import See
from scot_core.encoders.preprocessing import ImagePreprocessing
from scot_core.encoders.weights import CONFIG, WEIGHTS
from scot_core.errors import ModelError

EARLIER: Final = {2: 24, 4: 40, 10: 112, 15: 320}  # the block that ends a stride, and its channels
LAST: Final = 1280
DIM: Final = 2 * LAST + sum(EARLIER.values())


def preprocessing(size: int) -> ImagePreprocessing:
    """(x - 127) / 128, as it was trained."""
    return ImagePreprocessing(size, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)


def describe(folder: Path) -> dict[str, Any]:
    """Fields of the spec."""
    size = int(json_of(folder / CONFIG).get("image_size", 0))
    if size <= 0:
        raise ModelError(f"{folder / CONFIG} names no image_size: remove the folder, it is made again")
    pooling = f"means and maxima of the last map, means after blocks {', '.join(map(str, EARLIER))}"
    return {"dim": DIM, "image_size": size, "preprocessing": preprocessing(size).describe(), "pooling": pooling}


def load(folder: Path, device: torch.device) -> See:
    """The frozen network. Raises ModelError where its package is not installed, or the weights are damaged."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ModelError("the tower efficientnet-lite0 needs its network: `make towers` installs it") from error
    net = EfficientNet.from_name(LITE)
    try:
        net.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelError(f"{folder / WEIGHTS} is damaged: {error}; remove the folder, it is made again") from error
    net = _folded(net.eval()).requires_grad_(False).to(device, memory_format=torch.channels_last)

    def see(pixels: Tensor) -> Tensor:
        x, earlier = net._swish(net._conv_stem(pixels)), []
        for number, block in enumerate(net._blocks):
            x = block(x)
            if number in EARLIER:
                earlier.append(x.float().mean((2, 3)))
        x = net._swish(net._conv_head(x)).float()
        return torch.cat([x.mean((2, 3)), x.amax((2, 3)), *earlier], 1)

    return see


def _folded(net: Any) -> Any:
    """Batch norms into the convolutions before them."""
    pairs = [(net, "_conv_stem", "_bn0"), (net, "_conv_head", "_bn1")]
    for block in net._blocks:
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for holder, convolution, norm in pairs:
        setattr(holder, convolution, fuse_conv_bn_eval(getattr(holder, convolution), getattr(holder, norm)))
        setattr(holder, norm, nn.Identity())
    return net
