"""Plain-torch stand-ins for the original's models, with its parameter names; see original_backbones.py.

`OriginalModel(...)(pixels)` gives what the original's heads give; `write_checkpoint` writes its weights as the files
of the model zoo are written.
"""

import math
import pickle
from itertools import pairwise

import torch
import torch.nn.functional as F
from original_backbones import NormedConv, ResNet, Swin
from torch import nn

# the model zoo's sizes, from its public configurations
ZOO_BACKBONES = {
    "R50": lambda: ResNet((3, 4, 6, 3)),
    "R101": lambda: ResNet((3, 4, 23, 3)),
    "R101c": lambda: ResNet((3, 4, 23, 3), deep_stem=True),
    "Swin-T": lambda: Swin(96, (2, 2, 6, 2), (3, 6, 12, 24), 7),
    "Swin-S": lambda: Swin(96, (2, 2, 18, 2), (3, 6, 12, 24), 7),
    "Swin-B": lambda: Swin(128, (2, 2, 18, 2), (4, 8, 16, 32), 12),
    "Swin-L": lambda: Swin(192, (2, 2, 18, 2), (6, 12, 24, 48), 12),
}


def sine_positions(x):
    """(C, H, W) positions of a feature map (B, C, H, W): rows in the first half of the channels."""
    channels, height, width = x.shape[1:]
    half = channels // 2
    positions = torch.empty(channels, height, width)
    for first, length, axis in ((0, height, 0), (half, width, 1)):
        place = torch.arange(1, length + 1) / (length + 1e-6) * 2 * math.pi
        for channel in range(half):
            wave = torch.sin if channel % 2 == 0 else torch.cos
            values = wave(place / 10000 ** (2 * (channel // 2) / half))
            positions[first + channel] = values[:, None] if axis == 0 else values
    return positions


class EncoderLayer(nn.Module):
    def __init__(self, channels, heads, hidden):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x, positions):
        x = self.norm1(x + self.self_attn(x + positions, x + positions, x)[0])
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class DecoderLayer(nn.Module):
    def __init__(self, channels, heads, hidden):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads)
        self.multihead_attn = nn.MultiheadAttention(channels, heads)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x, queries, memory, positions):
        x = self.norm1(x + self.self_attn(x + queries, x + queries, x)[0])
        x = self.norm2(x + self.multihead_attn(x + queries, memory + positions, memory)[0])
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


def stack(layers, norm=None):
    """A module with `layers` and, if given, `norm`, as the original's transformer halves have."""
    module = nn.Module()
    module.layers = nn.ModuleList(layers)
    if norm is not None:
        module.norm = norm
    return module


def group_norm(channels):
    return nn.GroupNorm(32, channels)


class PixelDecoder(nn.Module):
    """The FPN, and in front of its top `encoder_layers` transformer layers if there are any."""

    def __init__(self, in_channels, channels, mask_channels, encoder_layers, hidden):
        super().__init__()
        for level, lateral in enumerate(in_channels, start=1):
            if level == 4 and encoder_layers:
                lateral = channels
            if level < 4:
                self.add_module(f"adapter_{level}", NormedConv(lateral, channels, 1, group_norm))
                lateral = channels
            self.add_module(f"layer_{level}", NormedConv(lateral, channels, 3, group_norm, padding=1))
        self.mask_features = nn.Conv2d(channels, mask_channels, kernel_size=3, padding=1)
        if encoder_layers:
            self.input_proj = nn.Conv2d(in_channels[-1], channels, kernel_size=1)
            self.transformer = nn.Module()
            self.transformer.encoder = stack(EncoderLayer(channels, 8, hidden) for _ in range(encoder_layers))

    def forward(self, features):
        top = features[-1]
        if hasattr(self, "transformer"):
            top = self.input_proj(top)
            shape, positions = top.shape, sine_positions(top).flatten(1).T[:, None]  # (H*W, 1, C)
            tokens = top.flatten(2).permute(2, 0, 1)
            for layer in self.transformer.encoder.layers:
                tokens = layer(tokens, positions)
            top = tokens.permute(1, 2, 0).reshape(shape)
        x = F.relu(self.layer_4(top))
        for level in (3, 2, 1):
            lateral = getattr(self, f"adapter_{level}")(features[level - 1])
            x = F.relu(getattr(self, f"layer_{level}")(lateral + F.interpolate(x, lateral.shape[-2:])))
        return self.mask_features(x), top


class Predictor(nn.Module):
    """The transformer decoder and its heads; without `num_classes` the masks only, as in PerPixelBaseline+."""

    def __init__(self, in_channels, channels, mask_channels, queries, layers, hidden, num_classes):
        super().__init__()
        self.query_embed = nn.Embedding(queries, channels)
        if in_channels != channels:
            self.input_proj = nn.Conv2d(in_channels, channels, kernel_size=1)
        self.transformer = nn.Module()
        decoder_layers = (DecoderLayer(channels, 8, hidden) for _ in range(layers))
        self.transformer.decoder = stack(decoder_layers, nn.LayerNorm(channels))
        if num_classes is not None:
            self.class_embed = nn.Linear(channels, num_classes + 1)
        sizes = (channels, channels, channels, mask_channels)
        self.mask_embed = stack(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, features, pixel_embeddings):
        if hasattr(self, "input_proj"):
            features = self.input_proj(features)
        memory = features.flatten(2).permute(2, 0, 1)
        positions = sine_positions(features).flatten(1).T[:, None]
        queries = self.query_embed.weight[:, None].expand(-1, memory.shape[1], -1)  # (Q, B, C)
        x = torch.zeros_like(queries)
        for layer in self.transformer.decoder.layers:
            x = layer(x, queries, memory, positions)
        x = self.transformer.decoder.norm(x).transpose(0, 1)  # (B, Q, C)
        classes = self.class_embed(x) if hasattr(self, "class_embed") else None
        first, second, third = self.mask_embed.layers
        masks = torch.einsum("bqc,bchw->bqhw", third(F.relu(second(F.relu(first(x))))), pixel_embeddings)
        return classes, masks


class OriginalModel(nn.Module):
    """Pixels -> class logits (None for the baselines) and mask logits, or class maps of PerPixelBaseline.

    kind is "maskformer", "per_pixel" or "per_pixel_plus".
    """

    def __init__(
        self,
        backbone,
        kind="maskformer",
        num_classes=150,
        num_queries=100,
        channels=256,
        mask_channels=256,
        hidden=2048,
        decoder_layers=6,
        encoder_layers=0,
    ):
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = nn.Module()
        self.sem_seg_head.pixel_decoder = PixelDecoder(
            backbone.channels, channels, mask_channels, encoder_layers, hidden
        )
        if kind == "per_pixel":
            self.sem_seg_head.predictor = nn.Conv2d(mask_channels, num_classes, kernel_size=1)
        else:
            self.sem_seg_head.predictor = Predictor(
                channels if encoder_layers else backbone.channels[-1],
                channels,
                mask_channels,
                num_queries if kind == "maskformer" else num_classes,
                decoder_layers,
                hidden,
                num_classes if kind == "maskformer" else None,
            )
        if kind == "maskformer":
            self.criterion = nn.Module()
            class_weights = torch.ones(num_classes + 1)
            class_weights[-1] = 0.1
            self.criterion.register_buffer("empty_weight", class_weights)
        self.kind, self.encoder_layers = kind, encoder_layers

    @torch.no_grad()
    def forward(self, pixels):
        features = self.backbone(pixels)
        pixel_embeddings, top = self.sem_seg_head.pixel_decoder(features)
        if self.kind == "per_pixel":
            return None, self.sem_seg_head.predictor(pixel_embeddings)
        return self.sem_seg_head.predictor(top if self.encoder_layers else features[-1], pixel_embeddings)


@torch.no_grad()
def randomize(model, seed=0):
    """Gives every norm, bias and position bias a value that matters; what stays 0 or 1 would hide a mix-up."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if "running_var" in name or (value.ndim == 1 and name.endswith("weight") and "empty" not in name):
            value.uniform_(0.5, 1.5, generator=generator)
        elif (value.ndim == 1 and "empty" not in name) or "bias_table" in name:
            value.normal_(0.0, 0.3, generator=generator)
        if "conv3.norm.weight" in name:
            value.mul_(0.3)  # or the sum over many residual blocks grows beyond bounds
    return model.eval()


def zoo_names(state):
    """The weights under the names of the published files, whose pixel decoder has no level of its own."""
    return {name.replace("sem_seg_head.pixel_decoder.", "sem_seg_head."): value for name, value in state.items()}


def write_checkpoint(path, state, protocol=4):
    """A file as the model zoo has them: NumPy arrays by name in a dict."""
    data = {"model": {name: value.numpy() for name, value in state.items()}, "__author__": "test"}
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    return path
