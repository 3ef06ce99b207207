"""The paper's per-pixel baselines: what MaskFormer is compared with, on the same parts (section 4, "baseline models").

PerPixelBaseline gives each pixel a class by a 1x1 convolution of its embedding. PerPixelBaseline+ has MaskFormer's
transformer decoder too, but each of its queries is one fixed class: nothing is matched, no query is classified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.utils.generic import can_return_tuple

from .common.batching import run_at_any_size
from .common.input_checks import check_inputs, check_pixels
from .common.pixel_level import build_pixel_level_module
from .configuration_per_pixel import PerPixelBaselineConfig, PerPixelBaselinePlusConfig
from .layers.initialized import MSRAConv2d
from .losses.per_pixel import class_maps, num_labelled, per_pixel_cross_entropy
from .losses.targets import check_batch_size, checked_targets, read_targets
from .modeling_maskformer import (
    MaskEmbedder,
    MaskFormerModel,
    MaskFormerModelOutput,
    MaskFormerPreTrainedModel,
    TransformersTuple,
    run_uncompiled,
)


@dataclass
class PerPixelSegmentationOutput(TransformersTuple, SemanticSegmenterOutput):
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

    The last two are not in the plain tuple.
    """

    named_only = ("image_sizes", "loss_dict")

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
        self.freeze()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> MaskFormerModelOutput | tuple:
        """Embeddings of pixels; the arguments are those of `MaskFormerModel`, the output has no segments."""
        check_pixels(pixel_values, pixel_mask)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states

        def forward_one_size(pixels: Tensor) -> MaskFormerModelOutput:
            return self.embed(pixels, output_hidden_states)

        divisor = self.pixel_level_module.size_divisor
        pixel_values = pixel_values.to(self.dtype)
        return run_at_any_size(forward_one_size, pixel_values, pixel_mask, divisor, keep_together=self.training)

    def embed(self, pixel_values: Tensor, output_hidden_states: bool) -> MaskFormerModelOutput:
        """The output for images `(B, 3, H, W)` of one size."""
        features, decoded = self.pixel_level_module(pixel_values)
        states = {}
        if output_hidden_states:
            states = {"encoder_hidden_states": tuple(features), "pixel_decoder_hidden_states": tuple(decoded.maps)}
            states["hidden_states"] = sum(states.values(), ())
        return MaskFormerModelOutput(
            encoder_last_hidden_state=features[-1],
            pixel_decoder_last_hidden_state=decoded.pixel_embeddings,
            **states,
        )


class PerPixelBaselinePlusModel(MaskFormerModel):
    """MaskFormer's parts with one query for each class: pixels -> embeddings of pixels and of classes."""

    config: PerPixelBaselinePlusConfig
    config_class = PerPixelBaselinePlusConfig

    def __init__(self, config: PerPixelBaselinePlusConfig):
        config.decoder_config.num_queries = config.num_labels  # query i is class i
        super().__init__(config)


class PerPixelPreTrainedModel(MaskFormerPreTrainedModel):
    """What both baselines have in common: their loss."""

    def compute_loss(
        self,
        layers: Sequence[Tensor],  # layers x (B, K, h, w), the last layer last
        class_labels: Sequence[Tensor],
        segment_ids: Tensor | None,
        mask_labels: Sequence[Tensor] | None,
        loss_normalizers: Tensor | None,
        own_sizes: tuple[Tensor, torch.Size] | None,
    ) -> dict[str, Any]:
        """The output's `loss_dict`, and `loss`, its sum."""
        self.check_replica()
        arguments = (class_labels, segment_ids, mask_labels, loss_normalizers, own_sizes)
        loss_dict = run_uncompiled(self.loss_parts, layers, *arguments)
        return {"loss": torch.stack(list(loss_dict.values())).sum(), "loss_dict": loss_dict}

    def loss_parts(
        self,
        layers: Sequence[Tensor],
        class_labels: Sequence[Tensor],
        segment_ids: Tensor | None,
        mask_labels: Sequence[Tensor] | None,
        loss_normalizers: Tensor | None,
        own_sizes: tuple[Tensor, torch.Size] | None,
    ) -> dict[str, Tensor]:
        """The cross-entropy of each layer by name."""
        check_batch_size(class_labels, len(layers[-1]))
        device = layers[-1].device
        targets = checked_targets(class_labels, segment_ids, mask_labels, self.config.num_labels, device)
        maps = targets.maps if own_sizes is None else targets.maps.void_beyond(*own_sizes)
        classes = class_maps(maps.ids, targets.class_ids)
        losses = per_pixel_cross_entropy(layers, classes, loss_normalizers)
        names = [f"loss_cross_entropy_{layer}" for layer in range(len(layers) - 1)]
        return dict(zip([*names, "loss_cross_entropy"], losses, strict=True))

    def loss_normalizers(
        self,
        class_labels: Sequence[Tensor],
        segment_ids: Tensor | None = None,
        mask_labels: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """`()`, what the loss of a batch is divided by: its labelled pixels, also of padding, as in training."""
        targets, _ = read_targets(class_labels, segment_ids, mask_labels, self.config.num_labels, self.device)
        # an id out of range must not reach beyond the table: the loss names it
        ids = targets.maps.ids.clamp(0, targets.class_ids.shape[1])  # (B, L, H, W)
        return num_labelled(class_maps(ids, targets.class_ids))


class PerPixelBaselineForSemanticSegmentation(PerPixelPreTrainedModel):
    """PerPixelBaseline: a 1x1 convolution classifies each per-pixel embedding."""

    config: PerPixelBaselineConfig
    config_class = PerPixelBaselineConfig

    def __init__(self, config: PerPixelBaselineConfig):
        super().__init__(config)
        self.model = PerPixelBaselineModel(config)
        self.classifier = MSRAConv2d(config.mask_feature_size, config.num_labels, kernel_size=1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: Sequence[Tensor] | None = None,
        class_labels: Sequence[Tensor] | None = None,
        pixel_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        *,
        segment_ids: Tensor | None = None,
        loss_normalizers: Tensor | None = None,
        **_: Any,
    ) -> PerPixelSegmentationOutput | tuple:
        """Class logits of each pixel and, with targets, the loss.

        Args:
            pixel_values: `(B, 3, H, W)` normalised pixels, any H and W.
            mask_labels: for each image its target masks `(S_b, H, W)`, booleans or numbers; inside is what is not 0,
                of floating ones from 0.5 on.
            class_labels: for each image the class ids `(S_b,)` of its segments. One beside no mask is not read.
            pixel_mask: `(B, H, W)`, 1 at pixels of the image and 0 at padding, which is right of and below the image.
            output_hidden_states: whether the output has this field; default as the config says.
            return_dict: False for a plain tuple.
            segment_ids: `(B, L, H, W)` integer id maps, the compact form of the target masks: see `Segments`.
            loss_normalizers: for steps of several batches: the mean over them of what the method of this name gives,
                float32, or as int32 of the same bits.

        The targets are those of MaskFormer. Pixels that are void or of no segment are unlabelled: they count nowhere.
        Where segments overlap, the later one has the pixel.
        """
        check_inputs(pixel_values, pixel_mask, mask_labels, class_labels, segment_ids)
        outputs = self.model(
            pixel_values, pixel_mask=pixel_mask, output_hidden_states=output_hidden_states, return_dict=True
        )
        logits = self.classifier(outputs.pixel_decoder_last_hidden_state)
        loss = {}
        if class_labels is not None:
            own_sizes = self.own_sizes(outputs, pixel_values, pixel_mask)
            loss = self.compute_loss([logits], class_labels, segment_ids, mask_labels, loss_normalizers, own_sizes)
        return PerPixelSegmentationOutput(
            **loss, logits=logits, hidden_states=outputs.hidden_states, image_sizes=outputs.image_sizes
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

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: Sequence[Tensor] | None = None,
        class_labels: Sequence[Tensor] | None = None,
        pixel_mask: Tensor | None = None,
        output_auxiliary_logits: bool | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        *,
        segment_ids: Tensor | None = None,
        loss_normalizers: Tensor | None = None,
        **_: Any,
    ) -> PerPixelSegmentationOutput | tuple:
        """Class logits of each pixel and, with targets, the loss.

        Args:
            output_auxiliary_logits, output_hidden_states, output_attentions: whether the output has these fields;
                default as the config says.

        The other arguments are those of `PerPixelBaselineForSemanticSegmentation`.
        """
        check_inputs(pixel_values, pixel_mask, mask_labels, class_labels, segment_ids)
        config = self.config
        if output_auxiliary_logits is None:
            output_auxiliary_logits = config.output_auxiliary_logits
        deep_supervision = class_labels is not None and config.use_auxiliary_loss

        masked = {"pixel_mask": pixel_mask, "output_attentions": output_attentions}
        outputs = self.model(pixel_values, output_hidden_states=output_hidden_states, return_dict=True, **masked)
        layers = self.predict(outputs, all_layers=output_auxiliary_logits or deep_supervision)
        loss = {}
        if class_labels is not None:
            own_sizes = self.own_sizes(outputs, pixel_values, pixel_mask)
            scored = layers if deep_supervision else layers[-1:]
            loss = self.compute_loss(scored, class_labels, segment_ids, mask_labels, loss_normalizers, own_sizes)
        return PerPixelSegmentationOutput(
            **loss,
            logits=layers[-1],
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            auxiliary_logits=layers[:-1] if output_auxiliary_logits else None,
            image_sizes=outputs.image_sizes,
        )

    def predict(self, outputs: MaskFormerModelOutput, all_layers: bool = False) -> tuple[Tensor, ...]:
        """Class logits `(B, K, H/4, W/4)` of the last decoder layer, or of each."""
        states = torch.stack(outputs.intermediate_hidden_states[0 if all_layers else -1 :])  # (layers, B, K, C)
        mask_embeddings = self.mask_embedder(states)  # (layers, B, K, C_E)
        pixel_embeddings = outputs.pixel_decoder_last_hidden_state  # (B, C_E, H/4, W/4)
        return torch.einsum("lbkc,bchw->lbkhw", mask_embeddings, pixel_embeddings).unbind()
