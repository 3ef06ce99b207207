"""The paper's per-pixel baselines: what MaskFormer is compared with, on the same parts (section 4, "baseline models").

PerPixelBaseline gives each pixel a class by a 1x1 convolution of its embedding. PerPixelBaseline+ has MaskFormer's
transformer decoder too, but each of its queries is one fixed class: nothing is matched, no query is classified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.modeling_outputs import SemanticSegmenterOutput

from .backbone import freeze_batch_norm
from .configuration_per_pixel import PerPixelBaselineConfig, PerPixelBaselinePlusConfig
from .layers.initialized import MSRAConv2d
from .losses.per_pixel import class_maps, per_pixel_cross_entropy
from .losses.targets import check_batch_size, checked_targets
from .modeling_maskformer import (
    MaskEmbedder,
    MaskFormerModel,
    MaskFormerModelOutput,
    MaskFormerPreTrainedModel,
    build_pixel_level_module,
    check_inputs,
    check_pixels,
)


@dataclass
class PerPixelSegmentationOutput(SemanticSegmenterOutput):
    """Output of both baselines; the image processor's `post_process_semantic_segmentation` takes it.

    Attributes:
        loss: scalar, the sum of `loss_dict` (with targets).
        logits: `(B, K, H/4, W/4)`, class logits of each pixel.
        hidden_states: the backbone's feature maps, finest first, the FPN's maps, coarsest first, and, of
            PerPixelBaseline+, the decoder's states as in `MaskFormerModelOutput` (with `output_hidden_states`).
        attentions: self-attention weights of each decoder layer, `(B, heads, K, K)` (with `output_attentions`).
        auxiliary_logits: the class logits of each decoder layer but the last (with `output_auxiliary_logits`).
        image_sizes: `(B, 2)` int64, height and width of each image without its padding, in pixels of the input.
        loss_dict: the parts of the loss by name (with targets): `loss_cross_entropy`, and of auxiliary layer i
            `loss_cross_entropy_i`.
    """

    auxiliary_logits: tuple[Tensor, ...] | None = None
    image_sizes: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None


class PerPixelBaselineModel(MaskFormerPreTrainedModel):
    """Backbone and pixel decoder: pixels -> per-pixel embeddings."""

    config: PerPixelBaselineConfig
    config_class = PerPixelBaselineConfig

    def __init__(self, config: PerPixelBaselineConfig):
        super().__init__(config)
        self.pixel_level_module = build_pixel_level_module(config)
        self.post_init()
        if config.freeze_backbone_batch_norm:
            freeze_batch_norm(self.get_backbone())

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> MaskFormerModelOutput | tuple:
        """Embeddings of pixels; the arguments are those of `MaskFormerModel`, the output has no segments."""
        check_pixels(pixel_values, pixel_mask)
        config = self.config
        with_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = self.run_at_any_size(lambda pixels: self.embed(pixels, with_states), pixel_values, pixel_mask)
        return_dict = config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def embed(self, pixel_values: Tensor, output_hidden_states: bool = False) -> MaskFormerModelOutput:
        """The output for images of one size."""
        features, _, decoded = self.pixel_level_module(pixel_values)
        output = MaskFormerModelOutput(
            encoder_last_hidden_state=features[-1],
            pixel_decoder_last_hidden_state=self.pixel_level_module.decoder.pixel_embeddings(decoded[-1]),
        )
        if output_hidden_states:
            output.encoder_hidden_states = tuple(features)
            output.pixel_decoder_hidden_states = tuple(decoded)
            output.hidden_states = output.encoder_hidden_states + output.pixel_decoder_hidden_states
        return output


class PerPixelBaselinePlusModel(MaskFormerModel):
    """MaskFormer's parts with one query for each class: pixels -> embeddings of pixels and of classes."""

    config: PerPixelBaselinePlusConfig
    config_class = PerPixelBaselinePlusConfig

    def __init__(self, config: PerPixelBaselinePlusConfig):
        config.decoder_config.num_queries = config.num_labels  # query i is class i
        super().__init__(config)


class PerPixelPreTrainedModel(MaskFormerPreTrainedModel):
    """What both baselines have in common: their loss."""

    def add_loss(
        self,
        output: PerPixelSegmentationOutput,
        layers: Sequence[Tensor],  # layers x (B, K, h, w), the last layer last
        class_labels: Sequence[Tensor],
        segment_ids: Tensor | None,
        mask_labels: Sequence[Tensor] | None,
    ) -> None:
        """Sets `loss_dict` and `loss`, their sum."""
        check_batch_size(class_labels, len(output.logits))
        device = output.logits.device
        targets = checked_targets(class_labels, segment_ids, mask_labels, self.config.num_labels, device)
        losses = per_pixel_cross_entropy(layers, class_maps(targets.maps.ids, targets.class_ids))
        names = [f"loss_cross_entropy_{layer}" for layer in range(len(layers) - 1)]
        output.loss_dict = dict(zip([*names, "loss_cross_entropy"], losses, strict=True))
        output.loss = losses.sum()


class PerPixelBaselineForSemanticSegmentation(PerPixelPreTrainedModel):
    """PerPixelBaseline: a 1x1 convolution classifies each per-pixel embedding."""

    config: PerPixelBaselineConfig
    config_class = PerPixelBaselineConfig

    def __init__(self, config: PerPixelBaselineConfig):
        super().__init__(config)
        self.model = PerPixelBaselineModel(config)
        self.classifier = MSRAConv2d(config.mask_feature_size, config.num_labels, kernel_size=1)
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: Sequence[Tensor] | None = None,
        class_labels: Sequence[Tensor] | None = None,
        pixel_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        segment_ids: Tensor | None = None,
    ) -> PerPixelSegmentationOutput | tuple:
        """Class logits of each pixel and, with targets, the loss.

        Args:
            pixel_values: `(B, 3, H, W)` normalised pixels, any H and W.
            mask_labels: for each image its target masks `(S_b, H, W)`, booleans or numbers.
            class_labels: for each image the class ids `(S_b,)` of its segments.
            pixel_mask: `(B, H, W)`, 1 at pixels of the image and 0 at padding, which is right of and below the image.
            output_hidden_states: whether the output has this field; default as the config says.
            return_dict: False for a plain tuple.
            segment_ids: `(B, L, H, W)` integer id maps, the compact form of the target masks: see `Segments`.

        The targets are those of MaskFormer. Pixels that are void or of no segment are unlabelled: they count nowhere.
        Where segments overlap, the later one has the pixel.
        """
        check_inputs(pixel_values, pixel_mask, mask_labels, class_labels, segment_ids)
        config = self.config
        with_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output = self.run_at_any_size(lambda pixels: self.predict(pixels, with_states), pixel_values, pixel_mask)
        if class_labels is not None:
            self.add_loss(output, [output.logits], class_labels, segment_ids, mask_labels)
        return_dict = config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def predict(self, pixel_values: Tensor, output_hidden_states: bool = False) -> PerPixelSegmentationOutput:
        """The output without loss for images `(B, 3, H, W)` of one size."""
        outputs = self.model.embed(pixel_values, output_hidden_states)
        return PerPixelSegmentationOutput(
            logits=self.classifier(outputs.pixel_decoder_last_hidden_state), hidden_states=outputs.hidden_states
        )


class PerPixelBaselinePlusForSemanticSegmentation(PerPixelPreTrainedModel):
    """PerPixelBaseline+: class k's logits are the dot products of query k's mask embedding with the pixels'."""

    config: PerPixelBaselinePlusConfig
    config_class = PerPixelBaselinePlusConfig

    def __init__(self, config: PerPixelBaselinePlusConfig):
        super().__init__(config)
        self.model = PerPixelBaselinePlusModel(config)
        self.mask_embedder = MaskEmbedder(config.decoder_config.d_model, config.mask_feature_size)
        self.post_init()

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
    ) -> PerPixelSegmentationOutput | tuple:
        """Class logits of each pixel and, with targets, the loss.

        Args:
            output_auxiliary_logits, output_hidden_states, output_attentions: whether the output has these fields;
                default as the config says.

        The other arguments are those of `PerPixelBaselineForSemanticSegmentation`.
        """
        check_inputs(pixel_values, pixel_mask, mask_labels, class_labels, segment_ids)
        config = self.config
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output_attentions = config.output_attentions if output_attentions is None else output_attentions
        if output_auxiliary_logits is None:
            output_auxiliary_logits = config.output_auxiliary_logits
        deep_supervision = class_labels is not None and config.use_auxiliary_loss

        def forward_one_size(pixels: Tensor) -> PerPixelSegmentationOutput:
            return self.predict(
                pixels,
                all_layers=output_auxiliary_logits or deep_supervision,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
            )

        output = self.run_at_any_size(forward_one_size, pixel_values, pixel_mask)
        if class_labels is not None:
            layers = [*(output.auxiliary_logits if deep_supervision else ()), output.logits]
            self.add_loss(output, layers, class_labels, segment_ids, mask_labels)
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
    ) -> PerPixelSegmentationOutput:
        """The output without loss for images `(B, 3, H, W)` of one size.

        With `all_layers` it has the `auxiliary_logits` of every decoder layer but the last.
        """
        embed_pixels = self.training or all_layers
        outputs, decoded = self.model.decode(pixel_values, output_hidden_states, output_attentions, embed_pixels)
        states = torch.stack(outputs.intermediate_hidden_states[0 if all_layers else -1 :])  # (layers, B, K, C)
        mask_embeddings = self.mask_embedder(states)  # (layers, B, K, C_E)
        if embed_pixels:
            pixel_embeddings = outputs.pixel_decoder_last_hidden_state
            logits = torch.einsum("lbkc,bchw->lbkhw", mask_embeddings, pixel_embeddings)
        else:
            logits = self.model.pixel_level_module.decoder.mask_logits(decoded, mask_embeddings[0])[None]
        return PerPixelSegmentationOutput(
            logits=logits[-1],
            auxiliary_logits=tuple(logits[:-1]) if all_layers else None,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
