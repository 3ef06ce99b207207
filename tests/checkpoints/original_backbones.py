"""Plain-torch stand-ins for the original's backbones: same parameter names and values out, written to be simple.

They are the second computation that converted weights are compared with, so they share no code with the package and
compute in another way where there is one (window attention as one masked attention over the whole map).
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class FrozenNorm(nn.Module):
    """detectron2's BatchNorm without training: four buffers, no count of batches."""

    def __init__(self, channels):
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x):
        mean, var, weight, bias = (
            value[:, None, None] for value in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias


class NormedConv(nn.Conv2d):
    """A convolution that holds its norm as the submodule `norm`, as detectron2's does."""

    def __init__(self, in_channels, out_channels, kernel_size, norm, **kwargs):
        super().__init__(in_channels, out_channels, kernel_size, bias=False, **kwargs)
        self.norm = norm(out_channels)

    def forward(self, x):
        return self.norm(super().forward(x))


class Bottleneck(nn.Module):
    def __init__(self, in_channels, width, stride, dilation):
        super().__init__()
        if in_channels != 4 * width:
            self.shortcut = NormedConv(in_channels, 4 * width, 1, FrozenNorm, stride=stride)
        self.conv1 = NormedConv(in_channels, width, 1, FrozenNorm)
        self.conv2 = NormedConv(width, width, 3, FrozenNorm, stride=stride, padding=dilation, dilation=dilation)
        self.conv3 = NormedConv(width, 4 * width, 1, FrozenNorm)

    def forward(self, x):
        shortcut = self.shortcut(x) if hasattr(self, "shortcut") else x
        return F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))) + shortcut)


class Stem(nn.Module):
    """One 7x7 convolution, or DeepLab's three 3x3."""

    def __init__(self, deep):
        super().__init__()
        widths = (3, 64, 64, 128) if deep else (3, 64)
        for number in range(1, len(widths)):
            size = 3 if deep else 7
            conv = NormedConv(
                widths[number - 1],
                widths[number],
                size,
                FrozenNorm,
                stride=2 if number == 1 else 1,
                padding=size // 2,
            )
            self.add_module(f"conv{number}", conv)

    def forward(self, x):
        for conv in self.children():
            x = F.relu(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class ResNet(nn.Module):
    """detectron2's ResNet as MaskFormer configures it: stride in the 3x3, FrozenBN, and with a deep stem (R101c) a
    last stage at stride 32 whose blocks are dilated by 1, 2 and 4."""

    def __init__(self, depths=(3, 4, 6, 3), deep_stem=False):
        super().__init__()
        self.stem = Stem(deep_stem)
        channels = 128 if deep_stem else 64
        for stage, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                dilation = (1, 2, 4)[block] if deep_stem and stage == 3 else 1
                blocks.append(Bottleneck(channels, 64 * 2**stage, 2 if stage and block == 0 else 1, dilation))
                channels = 256 * 2**stage
            self.add_module(f"res{stage + 2}", nn.Sequential(*blocks))
        self.channels = [256, 512, 1024, 2048]

    def forward(self, x):
        x = self.stem(x)
        features = []
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
            features.append(x)
        return features


class WindowAttention(nn.Module):
    def __init__(self, channels, window, heads, shift):
        super().__init__()
        self.window, self.heads, self.shift = window, heads, shift
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        row, column = row.flatten(), column.flatten()
        offset = (row[:, None] - row + window - 1) * (2 * window - 1) + column[:, None] - column + window - 1
        self.register_buffer("relative_position_index", offset)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x):
        """One attention over all tokens of the padded map (B, H, W, C), forbidden between windows."""
        batch, height, width, channels = x.shape
        # place of each token after the cyclic shift
        row = (torch.arange(height) - self.shift) % height
        column = (torch.arange(width) - self.shift) % width
        row, column = (axis.flatten() for axis in torch.meshgrid(row, column, indexing="ij"))
        together = torch.ones(height * width, height * width, dtype=torch.bool)
        for place, length in ((row, height), (column, width)):
            together &= (place // self.window)[:, None] == place // self.window
            if self.shift:  # what the shift wrapped around is no neighbour
                wrapped = place >= length - self.shift
                together &= wrapped[:, None] == wrapped
        offset_row = (row[:, None] - row).clamp(1 - self.window, self.window - 1) + self.window - 1
        offset_column = (column[:, None] - column).clamp(1 - self.window, self.window - 1) + self.window - 1
        bias = self.relative_position_bias_table[offset_row * (2 * self.window - 1) + offset_column]  # (N, N, heads)
        q, k, v = self.qkv(x.flatten(1, 2)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT / math.sqrt(channels // self.heads) + bias.permute(2, 0, 1)
        attended = scores.masked_fill(~together, -torch.inf).softmax(-1) @ v  # (B, heads, N, C / heads)
        return self.proj(attended.transpose(1, 2).reshape(batch, height, width, channels))


class Mlp(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    def __init__(self, channels, window, heads, shift):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, window, heads, shift)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, 4 * channels)

    def forward(self, x):
        height, width = x.shape[1:3]
        window = self.attn.window
        padded = F.pad(self.norm1(x), (0, 0, 0, -width % window, 0, -height % window))
        x = x + self.attn(padded)[:, :height, :width]
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x):
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        batch, height, width, _ = x.shape
        # the four pixels one after the other, down the columns first
        x = x.view(batch, height // 2, 2, width // 2, 2, -1).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))


class SwinStage(nn.Module):
    def __init__(self, channels, depth, window, heads, last):
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(channels, window, heads, window // 2 if number % 2 else 0) for number in range(depth)
        )
        if not last:
            self.downsample = PatchMerging(channels)


class PatchEmbedding(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.proj = nn.Conv2d(3, channels, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        x = F.pad(x, (0, -x.shape[-1] % 4, 0, -x.shape[-2] % 4))
        return self.norm(self.proj(x).permute(0, 2, 3, 1))  # (B, H/4, W/4, C)


class Swin(nn.Module):
    """The original's D2SwinTransformer: channels last inside, a LayerNorm on each output."""

    def __init__(self, embed_dim=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=7):
        super().__init__()
        self.channels = [embed_dim * 2**stage for stage in range(4)]
        self.patch_embed = PatchEmbedding(embed_dim)
        self.layers = nn.ModuleList(
            SwinStage(self.channels[stage], depths[stage], window, heads[stage], stage == 3) for stage in range(4)
        )
        for stage, channels in enumerate(self.channels):
            self.add_module(f"norm{stage}", nn.LayerNorm(channels))

    def forward(self, x):
        x = self.patch_embed(x)
        features = []
        for stage, layer in enumerate(self.layers):
            for block in layer.blocks:
                x = block(x)
            features.append(getattr(self, f"norm{stage}")(x).permute(0, 3, 1, 2))
            if stage < 3:
                x = layer.downsample(x)
        return features
