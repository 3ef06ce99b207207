"""MaskFormerImageProcessor and PerPixelImageProcessor: images and annotations -> a batch; outputs -> results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import BatchFeature, get_size_dict
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs
from transformers.utils import TensorType, logging

from .inputs.annotations import as_annotations, as_compact_targets, masks_and_classes, pad_segment_ids, resize_nearest
from .inputs.images import as_list, check_kinds, has_gray_arrays, with_eight_bits, with_usual_channels
from .inputs.saved_arguments import present_names
from .inputs.sizes import padding_to, resized_size, size_of_batch
from .post_processing import PostProcessingMixin, SemanticPostProcessingMixin

logger = logging.get_logger(__name__)

FILTERS = tuple(PILImageResampling(number) for number in (0, 1, 2, 3))  # that torch has


class MaskFormerImageProcessorKwargs(ImagesKwargs, total=False):
    """Arguments beyond those of every image processor; `MaskFormerImageProcessor` explains them."""

    size_divisor: int
    ignore_index: int | None
    do_reduce_labels: bool
    num_labels: int | None
    label_ids_to_fuse: list[int] | None


class SegmentationImageProcessor(TorchvisionBackend):
    """Batches of `pixel_values` and `pixel_mask` (and targets) for MaskFormer and the per-pixel baselines.

    Arguments, defaults, pixel values and saved files are those of transformers' `MaskFormerImageProcessor`, with two
    additions: compact targets (`segment_ids`) and `label_ids_to_fuse`. The dictionary of a processor (`to_dict`, or
    its JSON file), also an old one, has its arguments: `MaskFormerImageProcessor(**dictionary)`.

    Args:
        do_resize: resize images (and targets with them).
        size: {"shortest_edge", "longest_edge"}, {"height", "width"} or {"max_height", "max_width"}; or one number, the
            shortest edge. {"shortest_edge"} alone does not bound the longest.
        size_divisor: after resizing, height and width are raised to the next multiple (the image is stretched). 0: no.
        resample: filter for images; targets are always resized to the nearest.
        do_rescale, rescale_factor, do_normalize, image_mean, image_std: value = (pixel * factor - mean) / std.
        do_convert_rgb: make images of other modes RGB, without their transparency. Where `image_mean` is of another
            number of channels than 3, images stay as they are; one number for all channels is no list.
        pad_size: {"height", "width"} of the batch. None: the largest height and width in the batch.
        ignore_index: this value in `segmentation_maps` is no segment.
        do_reduce_labels: 0 in `segmentation_maps` becomes `ignore_index` (needed then), any other value one less.
        num_labels: kept and saved for transformers.
        label_ids_to_fuse: classes of stuff, which panoptic results show as one segment each. Saved.
    """

    valid_kwargs = MaskFormerImageProcessorKwargs
    model_input_names = ["pixel_values", "pixel_mask"]  # noqa: RUF012

    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"shortest_edge": 800, "longest_edge": 1333}  # noqa: RUF012
    default_to_square = False
    do_resize = True
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    do_convert_rgb = True
    size_divisor = 32
    do_reduce_labels = False
    ignore_index = None
    label_ids_to_fuse = None

    def __init__(
        self,
        size: int | Sequence[int] | Mapping[str, int] | None = None,
        max_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs = present_names(kwargs)
        saved_max_size = kwargs.pop("max_size", None)
        if max_size is None and not isinstance(size, Mapping):  # else the size says the same
            max_size = saved_max_size
        unknown = sorted(set(kwargs) - set(self.valid_kwargs.__annotations__))
        if unknown:
            known = ", ".join(sorted(self.valid_kwargs.__annotations__))
            raise TypeError(f"{type(self).__name__} has no argument {', '.join(unknown)}; it has: {known}.")
        if size is None:
            size = dict(self.size) if max_size is None else {**self.size, "longest_edge": max_size}
        elif isinstance(size, Mapping) and "shortest_edge" in size and max_size is not None:
            size = {"longest_edge": max_size, **size}
        kwargs["size"] = get_size_dict(size, max_size=max_size, default_to_square=False)
        if kwargs.get("label_ids_to_fuse") is not None:
            kwargs["label_ids_to_fuse"] = sorted(int(label) for label in kwargs["label_ids_to_fuse"])
        super().__init__(**kwargs)
        if self.do_reduce_labels and self.ignore_index is None:
            logger.warning_once("`do_reduce_labels` needs an `ignore_index` as soon as there are segmentation maps.")

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A processor from the dictionary of a saved one; keys of older versions are translated."""
        known = {}
        for name, value in present_names(image_processor_dict).items():
            if name in cls.valid_kwargs.__annotations__ or name == "max_size":
                known[name] = value
            else:
                logger.warning_once(f"The saved image processor has `{name}`, which is not known here: ignored.")
        arguments = present_names(kwargs)
        if isinstance(arguments.get("size", known.get("size")), Mapping):
            known.pop("max_size", None)  # what an old processor kept beside its size says the same
        max_size = arguments.pop("max_size", None)
        if max_size is not None:
            known["max_size"] = max_size
            if isinstance(known.get("size"), Mapping):  # whose longest edge would hold
                known["size"] = {name: length for name, length in known["size"].items() if name != "longest_edge"}
        return super().from_dict(known, **arguments)

    def preprocess(
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None = None,
        instance_id_to_semantic_id: list[dict[int, int]] | dict[int, int] | None = None,
        segment_ids: Sequence[Tensor] | None = None,
        class_labels: Sequence[Tensor] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """`pixel_values` (B, 3, H, W), `pixel_mask` (B, H, W) int64 with 1 at pixels of the image, and targets.

        Args:
            images: one image or several: PIL, arrays or tensors, of any sizes, also gray `(H, W)`. Values are from 0
                to 255; those of 16 bits, uint16 or a picture's, are scaled to that, 65535 being white.
            segmentation_maps: one `(H, W)` or `(H, W, 1)` map of integers per image, of classes, or of instances with
                `instance_id_to_semantic_id`. Adds `mask_labels`, a list of (S, H, W) float32 masks, 0 in the padding,
                and `class_labels`, a list of (S,) int64.
            instance_id_to_semantic_id: the class of each value in the maps; one dict, or one per image.
            segment_ids: one `(L, H, W)` id map per image (uint8, int16 or int32; k marks segment k, 0 none, -1 or 255
                in uint8 void). Adds `segment_ids` (B, L, H, W), resized to the nearest, void in the padding, and
                `class_labels`, int64. Far smaller than masks, and pixels can be void.
            class_labels: with `segment_ids`: the `(S,)` classes of the segments of each image, also lists or arrays.
            **kwargs: any argument of the constructor, for this call, and `return_tensors`, `device`,
                `input_data_format`, `disable_grouping`.

        Raises:
            ValueError: image and annotation do not fit, or an image has no pixels, with its index in the batch.
        """
        images = as_list(images)
        for name in ("size", "pad_size"):
            value = kwargs.get(name)
            if isinstance(value, (list, tuple)) and len(value) != 2:
                raise ValueError(f"`{name}` must be a dictionary, or (height, width), got {value!r}.")
        return super().preprocess(
            images, segmentation_maps, instance_id_to_semantic_id, segment_ids, class_labels, **kwargs
        )

    def _preprocess_image_like_inputs(
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None,
        instance_id_to_semantic_id: list[dict[int, int]] | dict[int, int] | None,
        segment_ids: Sequence[Tensor] | None,
        class_labels: Sequence[Tensor] | None,
        *,
        do_convert_rgb: bool | None,
        input_data_format: str | ChannelDimension | None,
        do_resize: bool,
        size: SizeDict,
        size_divisor: int,
        resample: Any,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | Sequence[float],
        image_std: float | Sequence[float],
        pad_size: SizeDict | None,
        ignore_index: int | None,
        do_reduce_labels: bool,
        return_tensors: str | TensorType | None,
        device: str | torch.device | None = None,
        **_: Any,  # what the base class passes to every processor and this one has no use for
    ) -> BatchFeature:
        # of a model for another number of channels: transformers converts no image
        is_rgb = not do_normalize or not isinstance(image_mean, (list, tuple)) or len(image_mean) == 3
        do_convert_rgb = do_convert_rgb and is_rgb
        pictures = self._prepare_image_like_inputs(
            images=images, do_convert_rgb=do_convert_rgb, input_data_format=input_data_format, device=device
        )
        if not pictures:
            raise ValueError("`images` is empty: a batch has at least one image.")
        sizes = [tuple(picture.shape[-2:]) for picture in pictures]
        for index, (height, width) in enumerate(sizes):
            if 0 in (height, width):
                raise ValueError(f"Image {index} of the batch is {height}x{width} (height x width): it has no pixels.")
        for name, value in (("image_mean", image_mean), ("image_std", image_std)):
            channels = {len(picture) for picture in pictures}
            if isinstance(value, (list, tuple)) and do_normalize and {len(value)} not in ({1}, channels):
                raise ValueError(f"`{name}` has {len(value)} numbers for images of {sorted(channels)} channels.")
        if segmentation_maps is not None and segment_ids is not None:
            raise ValueError("Give either `segmentation_maps` or `segment_ids`, not both.")
        maps = None if segmentation_maps is None else as_annotations(segmentation_maps, sizes)
        compact, classes = None, None
        if segment_ids is not None:
            compact, classes = as_compact_targets(segment_ids, class_labels, sizes)
        if segment_ids is None and class_labels is not None:
            raise ValueError("`class_labels` are the classes of `segment_ids`, which are missing.")

        if do_resize:
            pictures = [self.resize(picture, size, size_divisor, resample) for picture in pictures]
            sizes = [tuple(picture.shape[-2:]) for picture in pictures]
        padded = size_of_batch(sizes, pad_size)

        normalize = (do_rescale, rescale_factor, do_normalize, image_mean, image_std)
        pictures = [self.rescale_and_normalize(picture, *normalize) for picture in pictures]
        padded_pictures = [self.pad(picture[None], padded) for picture in pictures]
        pixel_values, pixel_masks, _ = zip(*padded_pictures, strict=True)
        batch = {"pixel_values": _join(pixel_values), "pixel_mask": _join(pixel_masks)}
        features = BatchFeature(batch, tensor_type=return_tensors)
        if maps is not None:
            maps = [resize_nearest(label_map, shape) for label_map, shape in zip(maps, sizes, strict=True)]
            targets = masks_and_classes(maps, instance_id_to_semantic_id, ignore_index, do_reduce_labels)
            masks = [tvF.pad(mask, padding_to(mask, padded)) for mask, _ in targets]
            features.update(mask_labels=masks, class_labels=[classes for _, classes in targets])
        if compact is not None:
            maps = [resize_nearest(ids, shape) for ids, shape in zip(compact, sizes, strict=True)]
            features.update(segment_ids=pad_segment_ids(maps, padded), class_labels=classes)
        return features

    def _prepare_images_structure(self, images: ImageInput, expected_ndims: int = 3) -> ImageInput:
        """A list of images; the base class takes gray arrays for rows of an image."""
        check_kinds(images)
        images = list(images) if has_gray_arrays(images) else super()._prepare_images_structure(images, expected_ndims)
        check_kinds(images, nested=False)
        return images

    def process_image(
        self,
        image: ImageInput,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        **options: Any,
    ) -> Tensor:
        """The image as a tensor `(C, H, W)`, with values from 0 to 255."""
        image = with_eight_bits(image)
        if do_convert_rgb:
            image = with_usual_channels(image, input_data_format)
        return super().process_image(
            image, do_convert_rgb=do_convert_rgb, input_data_format=input_data_format, **options
        )

    def convert_to_rgb(self, image: Tensor, **_: Any) -> Tensor:
        """An array's image `(C, H, W)` of 1, 3 or 4 channels as `(3, H, W)`, without its transparency."""
        return tvF.grayscale_to_rgb(image)[:3]

    def resize(
        self,
        image: Tensor,
        size: SizeDict,
        size_divisor: int = 0,
        resample: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """The image `(..., H, W)` resized to what `size` says for it, raised to multiples of `size_divisor`."""
        if not isinstance(resample, (InterpolationMode, NoneType)) and resample not in FILTERS:
            raise ValueError(
                f"`resample` must be one of {', '.join(f'{each.value} ({each.name})' for each in FILTERS)}, got "
                f"{resample!r}."
            )
        height, width = resized_size(tuple(image.shape[-2:]), size, size_divisor)
        return super().resize(image, SizeDict(height=height, width=width), resample=resample, **kwargs)

    def pad(
        self,
        images: Tensor,
        padded_size: tuple[int, int],
        segmentation_maps: list[Tensor] | None = None,
        fill: int = 0,
        ignore_index: int | None = 255,
    ) -> tuple[Tensor, Tensor, list[Tensor] | None]:
        """Images `(B, C, H, W)` of one size padded at the bottom and at the right, their pixel mask, and their maps.

        The pixel mask (B, H, W) int64 is 1 at pixels of the image. Maps `(..., H, W)` are filled with `ignore_index`.
        """
        padding = padding_to(images, padded_size)
        pixel_mask = images.new_ones((len(images), *images.shape[-2:]), dtype=torch.int64)
        pixel_mask = tvF.pad(pixel_mask, padding) if any(padding) else pixel_mask
        if segmentation_maps is not None:
            segmentation_maps = [
                tvF.pad(label_map, padding_to(label_map, padded_size), fill=ignore_index)
                for label_map in segmentation_maps
            ]
        images = tvF.pad(images, padding, fill=fill) if any(padding) else images  # torchvision copies for nothing
        return images, pixel_mask, segmentation_maps


class MaskFormerImageProcessor(PostProcessingMixin, SegmentationImageProcessor):
    """Batches for MaskFormer, and semantic, instance and panoptic results from what it puts out.

    The arguments are those of `SegmentationImageProcessor`.
    """


class PerPixelImageProcessor(SemanticPostProcessingMixin, SegmentationImageProcessor):
    """Batches for the per-pixel baselines, and from what they put out semantic results, the only ones there are.

    So pipelines know that they can ask for nothing else. The arguments are those of `SegmentationImageProcessor`.
    """


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Tensors `(1, ...)` of one shape in one; a single one as it is, since fresh memory costs more than arithmetic."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
