"""A picture and, without training, a model that finds its segments: so that a pipeline has something to do."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from image_processing import MaskFormerImageProcessor
from modeling_maskformer import MaskFormerForInstanceSegmentation

MASK_LOGIT, CLASS_LOGIT = 6.0, 14.0  # of what is true; masks have the negative elsewhere, other classes 0


def draw_segments(width: int, height: int, num_segments: int) -> tuple[Image.Image, np.ndarray]:
    """A picture of regions, each of its own colour, with noise; `(height, width)` the region of each pixel."""
    random = np.random.default_rng(0)
    centres = random.random((num_segments, 2, 1, 1)) * [[[height]], [[width]]]
    distance = np.square(np.mgrid[:height, :width] - centres).sum(1)  # (S, height, width)
    regions = distance.argmin(0)
    colours = random.integers(30, 226, (num_segments, 3))
    pixels = colours[regions] + random.normal(0, 10, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), regions


@torch.no_grad()
def teach(model: MaskFormerForInstanceSegmentation, picture: Image.Image, regions: np.ndarray) -> None:
    """Sets the last layers of both heads so that query i sees region i, and the other queries no object.

    Least squares on what the rest of the model, which may be random, makes of the picture. The masks are as good as
    the pixel embeddings allow; the classes are exact.
    """
    pixels = MaskFormerImageProcessor()(picture, return_tensors="pt")["pixel_values"]
    model.model.pixel_level_module.decoder.mask_projection.bias.fill_(1)  # something that is the same everywhere
    outputs = model(pixels, output_hidden_states=True)
    embeddings = outputs.pixel_decoder_last_hidden_state[0].double()  # (C, h, w)
    rows, columns = (
        torch.linspace(0, length - 1, places).long()
        for length, places in zip(regions.shape, embeddings.shape[1:], strict=True)
    )
    small = torch.from_numpy(regions)[rows][:, columns]  # (h, w)
    num_segments, num_queries = int(regions.max()) + 1, model.config.decoder_config.num_queries
    wanted = torch.where(small == torch.arange(num_segments)[:, None, None], MASK_LOGIT, -MASK_LOGIT).double()
    embeddings = embeddings.flatten(1)
    products = embeddings @ embeddings.T  # (C, C)
    products += 1e-6 * products.diagonal().mean() * torch.eye(len(products))
    masks = torch.zeros(num_queries, len(products), dtype=torch.float64)
    masks[:num_segments] = torch.linalg.solve(products, embeddings @ wanted.flatten(1).T).T

    classes = torch.zeros(num_queries, model.config.num_labels + 1, dtype=torch.float64)
    numbers = torch.arange(num_segments)
    classes[numbers, numbers % model.config.num_labels] = CLASS_LOGIT
    classes[num_segments:, -1] = CLASS_LOGIT

    segments = outputs.transformer_decoder_last_hidden_state[0]  # (Q, C)
    _fit(model.class_predictor, segments, classes)
    *hidden_layers, last = model.mask_embedder
    _fit(last[0], nn.Sequential(*hidden_layers)(segments), masks)


def _fit(layer: nn.Linear, inputs: Tensor, outputs: Tensor) -> None:
    """The least weights with which the layer gives these outputs `(Q, out)` for inputs `(Q, in)`."""
    with_bias = torch.cat((inputs.double(), torch.ones(len(inputs), 1, dtype=torch.float64)), dim=1)
    solution = torch.linalg.lstsq(with_bias, outputs, driver="gelsd").solution  # (in + 1, out)
    layer.weight.copy_(solution[:-1].T)
    layer.bias.copy_(solution[-1])
