"""Image side of the catalogue encoder: what it sees of a picture, and the convolutional tower."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = (16, 32, 64, 128)


def normalise(batch: Tensor) -> Tensor:
    """(n, H, W, 3) uint8 -> (n, 3, H, W) float32 in [-1.5, 1.5], channels last in memory."""
    floats = batch.permute(0, 3, 1, 2).float().div_(255).sub_(0.5).mul_(3)
    return floats.contiguous(memory_format=torch.channels_last)


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = _convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.convolution(x))


class ImageTower(nn.Module):
    """Four halvings with residual blocks between, pooled as one mean and four quarter maxima."""

    def __init__(self, dim: int, channels: tuple[int, ...] = CHANNELS) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, channels[0], 2), nn.ReLU()]
        for inputs, outputs in pairwise(channels):
            layers += [_convolution(inputs, outputs, 2), nn.ReLU(), _Residual(outputs)]
        self.layers = nn.Sequential(*layers)
        self.project = nn.Sequential(nn.Linear(5 * channels[-1], 256), nn.ReLU(), nn.Linear(256, dim))

    def forward(self, batch: Tensor) -> Tensor:
        """(n, 3, H, W) float -> (n, dim), not normalised."""
        features = self.layers(batch)
        quarters = functional.adaptive_max_pool2d(features, 2).flatten(1)
        projected: Tensor = self.project(torch.cat([features.mean((2, 3)), quarters], 1))
        return projected
