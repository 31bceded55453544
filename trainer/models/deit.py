"""DeiT-Tiny (Touvron et al., ICML 2021): a vision transformer, here without distillation token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import ConfigError
from trainer.config import ModelConfig
from trainer.models.network import InputShape
from trainer.models.registry import refuse_unused, register_model

_PATCH = 16
_WIDTH = 192
_DEPTH = 12
_HEADS = 3
_FEED_FORWARD = 4
_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., NeurIPS 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, tokens, width] to the same shape."""
        images, tokens, width = x.shape
        qkv = self.qkv(x).reshape(images, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.project(mixed.transpose(1, 2).reshape(images, tokens, width))
        return out


class TransformerBlock(nn.Module):
    """Attention and a feed-forward network, each behind a norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=_EPS)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width, eps=_EPS)
        self.fc1 = nn.Linear(width, _FEED_FORWARD * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(_FEED_FORWARD * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, tokens, width] to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.fc2(self.act(self.fc1(self.feed_forward_norm(x))))
        return out


class VisionTransformer(nn.Module):
    """Patches as tokens, a class token in front, learned positions; the class token is classified."""

    def __init__(self, input_shape: InputShape, classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        patches = (height // _PATCH) * (width // _PATCH)
        self.patches = nn.Conv2d(channels, _WIDTH, _PATCH, _PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, 1 + patches, _WIDTH))
        self.blocks = nn.Sequential(*(TransformerBlock(_WIDTH, _HEADS) for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(_WIDTH, eps=_EPS)
        self.classifier = nn.Linear(_WIDTH, classes)

    def reset_parameters(self) -> None:
        """Draw token and positions from a normal of std 0.02."""
        nn.init.normal_(self.class_token, 0.0, 0.02)
        nn.init.normal_(self.positions, 0.0, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Float images [N, C, H, W] to logits [N, classes]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        encoded = self.norm(self.blocks(tokens + self.positions))
        logits: Tensor = self.classifier(encoded[:, 0])
        return logits


@register_model("deit_tiny")
def deit_tiny(config: ModelConfig, input_shape: InputShape, classes: int) -> nn.Module:
    """DeiT-Tiny with patches of 16x16; raises ConfigError for images they do not tile."""
    refuse_unused(config)
    if input_shape[1] % _PATCH or input_shape[2] % _PATCH:
        image = "x".join(str(side) for side in input_shape[1:])
        raise ConfigError(
            f"model: deit_tiny cuts images into patches of {_PATCH}x{_PATCH}, which do not tile {image}: "
            f"set data.resolution to a multiple of {_PATCH}"
        )
    return VisionTransformer(input_shape, classes)
