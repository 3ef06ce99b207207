"""What a wrapper of the model does to its inputs leaves the losses as they are."""

import pytest
import torch
from models import ARCHITECTURES, batch_of, tiny
from several_processes import make_trainer
from torch.utils._pytree import tree_map_only


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_what_losses_are_divided_by_is_not_rounded_where_fsdp_rounds_the_inputs(kind, tmp_path):
    """FSDP2 casts all floating-point inputs to the precision of a step; 100,001 has none in float16."""

    def cast(module, arguments, named):
        return tree_map_only(torch.Tensor, lambda x: x.half() if x.is_floating_point() else x, (arguments, named))

    model, batch = tiny(kind), batch_of()
    batch["pixel_values"] = batch["pixel_values"].half().float()
    trainer = make_trainer(tmp_path, model, 2, 2)
    normalizers = model.loss_normalizers(batch["class_labels"], mask_labels=batch["mask_labels"])
    totals = torch.full_like(normalizers, 100_001.0)
    expected = trainer.compute_loss(model, dict(batch), num_items_in_batch=totals)
    model.register_forward_pre_hook(cast, with_kwargs=True)
    assert trainer.compute_loss(model, dict(batch), num_items_in_batch=totals) == expected > 0
