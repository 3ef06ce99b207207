"""MaskFormerModel and MaskFormerForInstanceSegmentation: assemble the parts, the heads and the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .backbone import (
    AnySizeTimmBackbone,
    FeaturePyramid,
    build_backbone,
    dilate_last_stage,
    freeze_batch_norm,
    needs_pyramid,
)
from .batching import SIZE_DIVISOR, run_at_any_size
from .configuration_maskformer import MaskFormerConfig
from .layers.mask_product import mask_product
from .layers.pixel_decoder import PixelDecoder
from .layers.transformer_decoder import TransformerDecoder, TransformerModule
from .layers.transformer_pixel_decoder import TransformerPixelDecoder
from .losses.mask_classification import MaskFormerLoss
from .losses.matching import HungarianMatcher


@dataclass
class MaskFormerModelOutput(ModelOutput):
    """Output of `MaskFormerModel`.

    Attributes:
        encoder_last_hidden_state: `(B, C_32, H/32, W/32)`, the backbone's coarsest feature map.
        pixel_decoder_last_hidden_state: `(B, C_E, H/4, W/4)`, the per-pixel embeddings.
        transformer_decoder_last_hidden_state: `(B, Q, C)`, the per-segment embeddings.
        encoder_hidden_states: the backbone's four feature maps, finest first (with `output_hidden_states`).
        pixel_decoder_hidden_states: the FPN's maps, coarsest first (with `output_hidden_states`).
        transformer_decoder_hidden_states: the decoder's input, each layer's output, the last one through the final
            LayerNorm, `(B, Q, C)` each (with `output_hidden_states`).
        hidden_states: the three above in one tuple (with `output_hidden_states`).
        attentions: self-attention weights of each decoder layer, `(B, heads, Q, Q)` (with `output_attentions`).
        intermediate_hidden_states: each decoder layer's output through the final LayerNorm, `(B, Q, C)` each.
        image_sizes: `(B, 2)` int64, height and width of each image without its padding, in pixels of the input.
    """

    encoder_last_hidden_state: Tensor | None = None
    pixel_decoder_last_hidden_state: Tensor | None = None
    transformer_decoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    pixel_decoder_hidden_states: tuple[Tensor, ...] | None = None
    transformer_decoder_hidden_states: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    intermediate_hidden_states: tuple[Tensor, ...] | None = None
    image_sizes: Tensor | None = None


@dataclass
class MaskFormerForInstanceSegmentationOutput(ModelOutput):
    """Output of `MaskFormerForInstanceSegmentation`; the image processor's `post_process_*` methods take it.

    Attributes:
        loss: scalar, the sum of `loss_dict` (with targets).
        class_queries_logits: `(B, Q, K+1)`, class logits of each query; the last is "no object".
        masks_queries_logits: `(B, Q, H/4, W/4)`, mask logits of each query.
        auxiliary_logits: for each decoder layer but the last a dict of the two above (with `output_auxiliary_logits`).
        pixel_decoder_last_hidden_state: `(B, C_E, H/4, W/4)`, the per-pixel embeddings. For plain inference the model
            needs them not and skips them: None then, unless `output_hidden_states` asks for them.
        loss_dict: the weighted parts of the loss by name (with targets).

    The other attributes are those of `MaskFormerModelOutput`.
    """

    loss: Tensor | None = None
    class_queries_logits: Tensor | None = None
    masks_queries_logits: Tensor | None = None
    auxiliary_logits: tuple[dict[str, Tensor], ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    pixel_decoder_last_hidden_state: Tensor | None = None
    transformer_decoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    pixel_decoder_hidden_states: tuple[Tensor, ...] | None = None
    transformer_decoder_hidden_states: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    image_sizes: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None


class PixelLevelModule(nn.Module):
    """Backbone and pixel decoder: pixels `(B, 3, H, W)` -> features, finest first; image features; FPN maps.

    Args:
        encoder: the backbone.
        decoder: the pixel decoder.
        pyramid: what makes the four feature maps of the backbone's, where these are others.

    Attributes:
        size_divisor: images are padded to multiples of this: 32, or what the backbone needs where that is more.
    """

    def __init__(self, encoder: nn.Module, decoder: PixelDecoder, pyramid: FeaturePyramid | None = None):
        super().__init__()
        self.encoder = encoder
        self.pyramid = pyramid
        self.decoder = decoder
        multiple = encoder.size_rule.multiple if isinstance(encoder, AnySizeTimmBackbone) else 1
        self.size_divisor = multiple if multiple % SIZE_DIVISOR == 0 else SIZE_DIVISOR

    def forward(self, pixel_values: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        features = self.extract_features(pixel_values)
        return features, *self.decoder(features)

    def extract_features(self, pixel_values: Tensor) -> list[Tensor]:
        """Four feature maps, finest first: `(B, C_i, ceil(H / s_i), ceil(W / s_i))` with s = 4, 8, 16, 32."""
        if not self.training:
            # all maps follow this order, in which convolutions are faster on a CPU; gradients gain nothing by it
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        features = self.encoder(pixel_values).feature_maps
        return list(features) if self.pyramid is None else self.pyramid(features, pixel_values.shape[-2:])


def build_pixel_decoder(in_channels: Sequence[int], config: PreTrainedConfig) -> PixelDecoder:
    """The FPN, with transformer encoder layers before it where the config asks for them."""
    sizes = (in_channels, config.fpn_feature_size, config.mask_feature_size)
    if config.pixel_decoder_layers == 0:
        return PixelDecoder(*sizes)
    encoder = config.decoder_config
    return TransformerPixelDecoder(
        *sizes,
        num_layers=config.pixel_decoder_layers,
        num_heads=encoder.encoder_attention_heads,
        ffn_channels=encoder.encoder_ffn_dim,
        dropout=encoder.dropout,
    )


def build_pixel_level_module(config: PreTrainedConfig) -> PixelLevelModule:
    """Backbone and pixel decoder of a config, whichever architecture stands on them."""
    encoder = build_backbone(config.backbone_config)
    if config.last_stage_dilations is not None:
        dilate_last_stage(encoder, config.last_stage_dilations)
    pyramid = FeaturePyramid(encoder.strides, encoder.channels) if needs_pyramid(encoder.config) else None
    channels = encoder.channels if pyramid is None else pyramid.channels
    return PixelLevelModule(encoder, build_pixel_decoder(channels, config), pyramid)


class MaskEmbedder(nn.Sequential):
    """The MLP from per-segment embeddings to mask embeddings: two hidden layers with ReLU (paper, section 3.3)."""

    def __init__(self, channels: int, embedding_channels: int):
        super().__init__(
            nn.Sequential(nn.Linear(channels, channels), nn.ReLU()),
            nn.Sequential(nn.Linear(channels, channels), nn.ReLU()),
            nn.Sequential(nn.Linear(channels, embedding_channels)),
        )


class MaskFormerPreTrainedModel(PreTrainedModel):
    """Initialisation (the original's, not transformers' N(0, 0.02)), loading and saving."""

    config: MaskFormerConfig
    config_class = MaskFormerConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # every layer knows how it starts; transformers makes the nn.init functions spare loaded weights here
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm, nn.LayerNorm, nn.Embedding)):
            module.reset_parameters()
        elif isinstance(module, MaskFormerLoss):
            weights = torch.ones_like(module.empty_weight)
            weights[-1] = self.config.no_object_weight
            init.copy_(module.empty_weight, weights)

    def train(self, mode: bool = True):
        super().train(mode)
        if self.config.freeze_backbone_batch_norm:
            freeze_batch_norm(self.get_backbone())
        return self

    def get_backbone(self) -> nn.Module:
        """The backbone module."""
        return self.base_model.pixel_level_module.encoder

    def run_at_any_size(
        self, forward: Callable[[Tensor], ModelOutput], pixel_values: Tensor, pixel_mask: Tensor | None
    ) -> ModelOutput:
        """The output of `forward`, which takes images padded as the original pads them; see `batching.py`."""
        divisor = self.base_model.pixel_level_module.size_divisor
        return run_at_any_size(forward, pixel_values, pixel_mask, divisor, keep_together=self.training)


class MaskFormerModel(MaskFormerPreTrainedModel):
    """Backbone, pixel decoder and transformer decoder: pixels -> per-pixel and per-segment embeddings."""

    def __init__(self, config: MaskFormerConfig):
        super().__init__(config)
        decoder_config = config.decoder_config
        self.pixel_level_module = build_pixel_level_module(config)
        self.transformer_module = TransformerModule(
            self.pixel_level_module.decoder.memory_channels,
            decoder_config.d_model,
            decoder_config.num_queries,
            TransformerDecoder(
                channels=decoder_config.d_model,
                num_layers=decoder_config.decoder_layers,
                num_heads=decoder_config.decoder_attention_heads,
                ffn_channels=decoder_config.decoder_ffn_dim,
                dropout=decoder_config.dropout,
                attention_dropout=decoder_config.attention_dropout,
                activation_dropout=decoder_config.activation_dropout,
                activation=decoder_config.activation_function,
            ),
            enforce_projection=config.enforce_input_projection,
        )
        self.post_init()
        if config.freeze_backbone_batch_norm:
            freeze_batch_norm(self.get_backbone())

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskFormerModelOutput | tuple:
        """Embeddings of pixels and segments.

        Args:
            pixel_values: `(B, 3, H, W)` normalised pixels, any H and W.
            pixel_mask: `(B, H, W)`, 1 at pixels of the image and 0 at padding, which is right of and below the image.
            output_hidden_states, output_attentions: whether the output has these fields; default as the config says.
            return_dict: False for a plain tuple.
        """
        check_pixels(pixel_values, pixel_mask)
        output_hidden_states = (
            self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        )
        output_attentions = self.config.output_attentions if output_attentions is None else output_attentions

        def forward_one_size(pixels: Tensor) -> MaskFormerModelOutput:
            output, _ = self.decode(pixels, output_hidden_states, output_attentions)
            return output

        output = self.run_at_any_size(forward_one_size, pixel_values, pixel_mask)
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def decode(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        output_pixel_embeddings: bool = True,
    ) -> tuple[MaskFormerModelOutput, Tensor]:
        """The output for images of one size, and the pixel decoder's finest map `(B, C, H/4, W/4)`."""
        features, memory, decoded = self.pixel_level_module(pixel_values)
        decoder = self.transformer_module(memory, output_attentions)
        output = MaskFormerModelOutput(
            encoder_last_hidden_state=features[-1],
            transformer_decoder_last_hidden_state=decoder.outputs[-1],
            attentions=decoder.attentions,
            intermediate_hidden_states=tuple(decoder.outputs),
        )
        if output_pixel_embeddings:
            output.pixel_decoder_last_hidden_state = self.pixel_level_module.decoder.pixel_embeddings(decoded[-1])
        if output_hidden_states:
            output.encoder_hidden_states = tuple(features)
            output.pixel_decoder_hidden_states = tuple(decoded)
            output.transformer_decoder_hidden_states = (*decoder.hidden_states[:-1], decoder.outputs[-1])
            output.hidden_states = (
                output.encoder_hidden_states
                + output.pixel_decoder_hidden_states
                + output.transformer_decoder_hidden_states
            )
        return output, decoded[-1]


class MaskFormerForInstanceSegmentation(MaskFormerPreTrainedModel):
    """MaskFormer with its heads and its loss, for semantic, instance and panoptic segmentation alike."""

    def __init__(self, config: MaskFormerConfig):
        super().__init__(config)
        self.model = MaskFormerModel(config)
        channels = config.decoder_config.d_model
        self.class_predictor = nn.Linear(channels, config.num_labels + 1)
        self.mask_embedder = MaskEmbedder(channels, config.mask_feature_size)
        self.criterion = MaskFormerLoss(
            config.num_labels,
            HungarianMatcher(
                mask_weight=config.mask_weight,
                dice_weight=config.dice_weight,
                non_finite_cost=config.non_finite_cost,
            ),
            no_object_weight=config.no_object_weight,
            cross_entropy_weight=config.cross_entropy_weight,
            mask_weight=config.mask_weight,
            dice_weight=config.dice_weight,
            mask_loss=config.mask_loss,
            num_points=config.num_points,
            oversample_ratio=config.oversample_ratio,
            importance_sample_ratio=config.importance_sample_ratio,
        )
        self.post_init()
        if config.freeze_backbone_batch_norm:
            freeze_batch_norm(self.get_backbone())

    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: Sequence[Tensor] | None = None,
        class_labels: Sequence[Tensor] | None = None,
        pixel_mask: Tensor | None = None,
        output_auxiliary_logits: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        segment_ids: Tensor | None = None,
    ) -> MaskFormerForInstanceSegmentationOutput | tuple:
        """Class and mask logits of each query and, with targets, the loss.

        Args:
            pixel_values: `(B, 3, H, W)` normalised pixels, any H and W.
            mask_labels: for each image its target masks `(S_b, H, W)`, booleans or numbers (transformers' form).
            class_labels: for each image the class ids `(S_b,)` of its segments.
            pixel_mask: `(B, H, W)`, 1 at pixels of the image and 0 at padding, which is right of and below the image.
            output_auxiliary_logits, output_hidden_states, output_attentions: whether the output has these fields;
                default as the config says.
            return_dict: False for a plain tuple.
            segment_ids: `(B, L, H, W)` integer id maps, the compact form of the target masks: see `Segments`.
                Void pixels take part neither in matching nor in the mask losses.
        """
        check_inputs(pixel_values, pixel_mask, mask_labels, class_labels, segment_ids)
        config = self.config
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        if output_auxiliary_logits is None:
            output_auxiliary_logits = bool(config.output_auxiliary_logits)
        deep_supervision = class_labels is not None and config.use_auxiliary_loss

        def forward_one_size(pixels: Tensor) -> MaskFormerForInstanceSegmentationOutput:
            return self.predict(
                pixels,
                all_layers=output_auxiliary_logits or deep_supervision,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
            )

        output = self.run_at_any_size(forward_one_size, pixel_values, pixel_mask)
        if class_labels is not None:
            layers = [*(output.auxiliary_logits if deep_supervision else ()), output]
            output.loss_dict = self.criterion(
                [layer["class_queries_logits"] for layer in layers],
                [layer["masks_queries_logits"] for layer in layers],
                class_labels,
                segment_ids,
                mask_labels,
            )
            output.loss = torch.stack(list(output.loss_dict.values())).sum()
        if not output_auxiliary_logits:
            output.auxiliary_logits = None
        return_dict = config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def predict(
        self,
        pixel_values: Tensor,
        all_layers: bool = False,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> MaskFormerForInstanceSegmentationOutput:
        """The output without loss for images `(B, 3, H, W)` of one size.

        With `all_layers` it has the `auxiliary_logits` of every decoder layer but the last. The pixel embeddings are
        computed only where they are used or asked for (in training, for all layers, or with the hidden states).
        """
        embed_pixels = self.training or all_layers or output_hidden_states
        outputs, decoded = self.model.decode(pixel_values, output_hidden_states, output_attentions, embed_pixels)
        pixel_embeddings = outputs.pixel_decoder_last_hidden_state
        states = torch.stack(outputs.intermediate_hidden_states[0 if all_layers else -1 :])  # (layers, B, Q, C)
        mask_embeddings = self.mask_embedder(states)  # (layers, B, Q, C_E)
        if self.training:
            mask_logits = mask_product(mask_embeddings, pixel_embeddings)  # layers x (B, Q, H/4, W/4)
        elif embed_pixels:
            mask_logits = torch.einsum("lbqc,bchw->lbqhw", mask_embeddings, pixel_embeddings)
        else:
            mask_logits = self.model.pixel_level_module.decoder.mask_logits(decoded, mask_embeddings[0])[None]
        predictions = [
            {"class_queries_logits": classes, "masks_queries_logits": masks}
            for classes, masks in zip(self.class_predictor(states), mask_logits, strict=True)
        ]
        return MaskFormerForInstanceSegmentationOutput(
            **predictions[-1],
            auxiliary_logits=tuple(predictions[:-1]) if all_layers else None,
            **{name: value for name, value in outputs.items() if name != "intermediate_hidden_states"},
        )


def check_pixels(pixel_values: Tensor, pixel_mask: Tensor | None) -> None:
    """Raises a ValueError where the pixels or their mask have not the expected shape."""
    if pixel_values.ndim != 4:
        raise ValueError(
            f"pixel_values has shape {tuple(pixel_values.shape)}, expected (batch, channels, height, width)."
        )
    expected = (pixel_values.shape[0], *pixel_values.shape[-2:])
    if pixel_mask is not None and tuple(pixel_mask.shape) != expected:
        raise ValueError(f"pixel_mask has shape {tuple(pixel_mask.shape)}, expected {expected} as pixel_values has.")


def check_inputs(
    pixel_values: Tensor,
    pixel_mask: Tensor | None,
    mask_labels: Sequence[Tensor] | None,
    class_labels: Sequence[Tensor] | None,
    segment_ids: Tensor | None,
) -> None:
    """Raises a ValueError where pixels have not the expected shape, or masks come without classes."""
    check_pixels(pixel_values, pixel_mask)
    if class_labels is None and (mask_labels is not None or segment_ids is not None):
        raise ValueError("Target masks were passed without class_labels: pass the class ids of the segments too.")
