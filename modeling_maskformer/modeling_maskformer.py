"""MaskFormerModel and MaskFormerForInstanceSegmentation: assemble the parts, the heads and the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import MaskFormerConfig as TransformersMaskFormerConfig
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .backbone import freeze_batch_norm, freeze_unused, keep_untrained_statistics
from .common.batching import run_at_any_size
from .common.input_checks import check_inputs, check_pixels
from .common.pixel_level import build_pixel_level_module
from .configuration_maskformer import MaskFormerConfig, own_config
from .layers.mask_product import mask_product
from .layers.transformer_decoder import TransformerDecoder, TransformerModule
from .losses.mask_classification import MaskFormerLoss
from .losses.matching import HungarianMatcher
from .losses.targets import labels_of_masks


class TransformersTuple:
    """For outputs: as a tuple (`return_dict=False`, indices) they hold transformers' fields, in its order."""

    named_only: ClassVar[tuple[str, ...]] = ()  # fields that transformers' outputs do not have

    def to_tuple(self) -> tuple:
        """The fields that are not None, but those of `named_only`."""
        return tuple(value for name, value in self.items() if name not in self.named_only)


@dataclass
class MaskFormerModelOutput(TransformersTuple, ModelOutput):
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

    The last two are not in the plain tuple.
    """

    named_only = ("intermediate_hidden_states", "image_sizes")

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
class MaskFormerForInstanceSegmentationOutput(TransformersTuple, ModelOutput):
    """Output of `MaskFormerForInstanceSegmentation`; the image processor's `post_process_*` methods take it.

    Attributes:
        loss: scalar, the sum of `loss_dict` (with targets).
        class_queries_logits: `(B, Q, K+1)`, class logits of each query; the last is "no object".
        masks_queries_logits: `(B, Q, H/4, W/4)`, mask logits of each query.
        auxiliary_logits: for each decoder layer but the last a dict of the two above (with `output_auxiliary_logits`).
        loss_dict: the weighted parts of the loss by name (with targets).

    The others are those of `MaskFormerModelOutput`. `image_sizes` and `loss_dict` are not in the plain tuple.
    """

    named_only = ("image_sizes", "loss_dict")

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
    accepts_loss_kwargs = False  # what else `forward` is called with has no part in the loss
    _supports_sdpa = True
    _no_split_modules = ("AnySizeTimmBackbone", "FPNLayer", "TransformerEncoderLayer", "TransformerDecoderLayer")

    def __init__(self, config: PreTrainedConfig):
        super().__init__(own_config(config))
        names = self.config.id2label  # of JSON, where from_pretrained(id2label=...) was given it: the ids are texts
        self.config.id2label = {int(label): name for label, name in names.items()}
        self.config.check()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """The model of a checkpoint; of a folder that `maskformer export` wrote what runs its graph.

        So a pipeline and the Auto classes open either by its name. Arguments are transformers'; of an exported folder
        also those that load and change nothing.
        """
        from .inference.exported_folder import is_exported, open_exported  # which import this file

        if pretrained_model_name_or_path is not None and is_exported(pretrained_model_name_or_path, **kwargs):
            return open_exported(cls, pretrained_model_name_or_path, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

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
        self.freeze()  # loading makes every weight trainable, and ends in eval()
        return self

    def freeze(self) -> None:
        """Takes from training what the config says, and what is in no loss."""
        backbone = self.get_backbone()
        freeze_unused(backbone)
        if self.config.freeze_backbone_batch_norm:
            freeze_batch_norm(backbone)
        keep_untrained_statistics(backbone)

    def get_backbone(self) -> nn.Module:
        """The backbone module."""
        return self.base_model.pixel_level_module.encoder

    def get_input_embeddings(self) -> nn.Module:
        """The first layer that has weights: the convolution that takes the pixels."""
        layers = (module for module in self.get_backbone().modules() if not any(module.children()))
        return next(layer for layer in layers if any(True for _ in layer.parameters()))

    def own_sizes(
        self, outputs: ModelOutput, pixel_values: Tensor, pixel_mask: Tensor | None
    ) -> tuple[Tensor, torch.Size] | None:
        """The images' own sizes `(B, 2)` and the batch's, where nothing beyond an image is predicted or scored.

        That is in evaluation, where images run with those of their size only. In training they run together, and the
        padding is predicted and scored as in the original.
        """
        if self.training or pixel_mask is None:
            return None
        return outputs.image_sizes, pixel_values.shape[-2:]

    def check_replica(self) -> None:
        """Raises a RuntimeError in `nn.DataParallel`, which cuts each image's labels into parts for its GPUs."""
        if getattr(self, "_is_replica", False):
            raise RuntimeError(
                f"{type(self).__name__} got targets inside nn.DataParallel, which splits the segments of every image "
                "among the GPUs. Start one process for each GPU: accelerate launch train.py ..., or leave one GPU "
                "visible (CUDA_VISIBLE_DEVICES=0)."
            )


class MaskFormerModel(MaskFormerPreTrainedModel):
    """Backbone, pixel decoder and transformer decoder: pixels -> per-pixel and per-segment embeddings."""

    def __init__(self, config: MaskFormerConfig | TransformersMaskFormerConfig):
        super().__init__(config)
        config = self.config
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
        self.freeze()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **_: Any,
    ) -> MaskFormerModelOutput | tuple:
        """Embeddings of pixels and segments.

        Args:
            pixel_values: `(B, 3, H, W)` normalised pixels, any H and W, any floating dtype (cast to the model's).
            pixel_mask: `(B, H, W)`, 1 at pixels of the image and 0 at padding, which is right of and below the image.
            output_hidden_states, output_attentions: whether the output has these fields; default as the config says.
            return_dict: False for a plain tuple.

        Other keywords are not read, as in transformers.
        """
        check_pixels(pixel_values, pixel_mask)
        config = self.config
        output_hidden_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        output_attentions = config.output_attentions if output_attentions is None else output_attentions

        def forward_one_size(pixels: Tensor) -> MaskFormerModelOutput:
            return self.embed(pixels, output_hidden_states, output_attentions)

        divisor = self.pixel_level_module.size_divisor
        pixel_values = pixel_values.to(self.dtype)
        return run_at_any_size(forward_one_size, pixel_values, pixel_mask, divisor, keep_together=self.training)

    def embed(
        self, pixel_values: Tensor, output_hidden_states: bool, output_attentions: bool
    ) -> MaskFormerModelOutput:
        """The output for images `(B, 3, H, W)` of one size, padded as the original pads them."""
        features, (memory, maps, pixel_embeddings) = self.pixel_level_module(pixel_values)
        decoder = self.transformer_module(memory, output_attentions)
        states = {}
        if output_hidden_states:
            states = {
                "encoder_hidden_states": tuple(features),
                "pixel_decoder_hidden_states": tuple(maps),
                "transformer_decoder_hidden_states": (*decoder.hidden_states[:-1], decoder.outputs[-1]),
            }
            states["hidden_states"] = sum(states.values(), ())
        return MaskFormerModelOutput(
            encoder_last_hidden_state=features[-1],
            pixel_decoder_last_hidden_state=pixel_embeddings,
            transformer_decoder_last_hidden_state=decoder.outputs[-1],
            attentions=decoder.attentions,
            intermediate_hidden_states=tuple(decoder.outputs),
            **states,
        )


class MaskFormerForInstanceSegmentation(MaskFormerPreTrainedModel):
    """MaskFormer with its heads and its loss, for semantic, instance and panoptic segmentation alike."""

    def __init__(self, config: MaskFormerConfig | TransformersMaskFormerConfig):
        super().__init__(config)
        config = self.config
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

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with `output_loading_info`
        if isinstance(model, cls):  # not what runs an exported graph
            # the checkpoint's weights have the one that it was saved with, which the config may have changed
            model.criterion.empty_weight[-1] = model.config.no_object_weight
        return loaded

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
    ) -> MaskFormerForInstanceSegmentationOutput | tuple:
        """Class and mask logits of each query and, with targets, the loss.

        Args:
            pixel_values: `(B, 3, H, W)` normalised pixels, any H and W, of any floating dtype. Of NaN or infinite ones
                come logits that are NaN, of that image alone: the device is not waited for to find them.
            mask_labels: for each image its target masks `(S_b, H, W)`, booleans or numbers (transformers' form);
                inside is what is not 0, of floating ones from 0.5 on.
            class_labels: for each image the class ids `(S_b,)` of its segments. One beside no mask is not read.
            pixel_mask: `(B, H, W)`, 1 at pixels of the image and 0 at padding, which is right of and below the image.
            output_auxiliary_logits, output_hidden_states, output_attentions: whether the output has these fields;
                default as the config says.
            segment_ids: `(B, L, H, W)` integer id maps, the compact form of the target masks: see `Segments`.
                Void pixels take part neither in matching nor in the mask losses.
            loss_normalizers: for steps of several batches: the mean over them of what the method of this name gives,
                float32, or as int32 of the same bits.
            return_dict: False for a plain tuple.

        Other keywords, such as what a collator puts into a batch for the metrics, are not read, as in transformers.
        """
        check_inputs(pixel_values, pixel_mask, mask_labels, class_labels, segment_ids)
        config = self.config
        if output_auxiliary_logits is None:
            output_auxiliary_logits = bool(config.output_auxiliary_logits)
        deep_supervision = class_labels is not None and config.use_auxiliary_loss
        if class_labels is not None:  # first of all, as the host waits for the device until the targets are checked
            self.check_replica()
            arguments = (len(pixel_values), class_labels, segment_ids, mask_labels, pixel_values.device)
            targets = run_uncompiled(self.criterion.prepare, *arguments)

        # by name: transformers' search for overflows takes for numbers what comes by position
        masked = {"pixel_mask": pixel_mask, "output_attentions": output_attentions}
        outputs = self.model(pixel_values, output_hidden_states=output_hidden_states, return_dict=True, **masked)
        *auxiliary, last = self.predict(outputs, all_layers=output_auxiliary_logits or deep_supervision)
        loss = loss_dict = None
        if class_labels is not None:
            own_sizes = self.own_sizes(outputs, pixel_values, pixel_mask)
            if own_sizes is not None:
                # compiled with the model, it would have both compiled anew for other numbers of segments
                targets = run_uncompiled(targets.void_beyond, *own_sizes)
            layers = [*auxiliary, last] if deep_supervision else [last]
            loss_dict = run_uncompiled(
                self.criterion,
                [layer["class_queries_logits"] for layer in layers],
                [layer["masks_queries_logits"] for layer in layers],
                targets,
                normalizers=loss_normalizers,
            )
            loss = torch.stack(list(loss_dict.values())).sum()
        return MaskFormerForInstanceSegmentationOutput(
            loss=loss,
            **last,
            auxiliary_logits=tuple(auxiliary) if output_auxiliary_logits else None,
            **{name: value for name, value in outputs.items() if name != "intermediate_hidden_states"},
            loss_dict=loss_dict,
        )

    def loss_normalizers(
        self,
        class_labels: Sequence[Tensor],
        segment_ids: Tensor | None = None,
        mask_labels: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """`(2,)`, what the loss of a batch is divided by: see `MaskFormerLoss.normalizers`."""
        class_labels = labels_of_masks(class_labels, mask_labels)
        return self.criterion.normalizers(class_labels, self.config.decoder_config.num_queries)

    def predict(self, outputs: MaskFormerModelOutput, all_layers: bool = False) -> list[dict[str, Tensor]]:
        """Class and mask logits of the last decoder layer, or of each, under the names of the output's fields."""
        pixel_embeddings = outputs.pixel_decoder_last_hidden_state  # (B, C_E, H/4, W/4)
        states = torch.stack(outputs.intermediate_hidden_states[0 if all_layers else -1 :])  # (layers, B, Q, C)
        mask_embeddings = self.mask_embedder(states)  # (layers, B, Q, C_E)
        mask_logits = mask_product(mask_embeddings, pixel_embeddings)  # layers x (B, Q, H/4, W/4)
        return [
            {"class_queries_logits": classes, "masks_queries_logits": masks}
            for classes, masks in zip(self.class_predictor(states), mask_logits, strict=True)
        ]


@torch.compiler.disable
def run_uncompiled(criterion: Callable, *arguments: Any, **named: Any) -> Any:
    """What a criterion gives. Matching goes to the host and back: no graph holds it, and here one graph ends."""
    return criterion(*arguments, **named)
