"""A run goes on with the settings of the optimizer that it began with."""

import pytest
import torch
from torch import nn

from modeling_maskformer.training.saving.same_optimizer import check_same_optimizer


def adamw(rate, name="head"):
    return torch.optim.AdamW([{"params": nn.Linear(2, 2).parameters(), "name": name}], lr=rate)


def test_a_rate_that_follows_the_metric_may_have_fallen_and_others_must_be_as_they_were(tmp_path):
    saved = adamw(0.1)
    saved.param_groups[0]["lr"] = 0.01  # lowered, by a schedule that does not keep what it began with
    torch.save(saved.state_dict(), tmp_path / "optimizer.pt")
    check_same_optimizer(adamw(0.1), tmp_path)
    saved.param_groups[0]["initial_lr"] = 0.1
    torch.save(saved.state_dict(), tmp_path / "optimizer.pt")
    check_same_optimizer(adamw(0.1), tmp_path)
    with pytest.raises(ValueError, match=r"learning_rate of the weights 'head' is 0\.1 there and 0\.2 here"):
        check_same_optimizer(adamw(0.2), tmp_path)
    with pytest.raises(ValueError, match="decay_norms_and_embeddings is another there"):
        check_same_optimizer(adamw(0.1, "head_no_decay"), tmp_path)


def test_other_settings_and_another_kind_of_optimizer_are_named(tmp_path):
    torch.save(adamw(0.1).state_dict(), tmp_path / "optimizer.pt")
    decayed = adamw(0.1)
    decayed.param_groups[0]["weight_decay"] = 0.5
    with pytest.raises(ValueError, match=r"weight_decay of the weights 'head' is 0\.01 there and 0\.5 here"):
        check_same_optimizer(decayed, tmp_path)
    weights = [{"params": nn.Linear(2, 2).parameters(), "name": "head"}]
    with pytest.raises(ValueError, match=r"it is of another kind \(optim\)"):
        check_same_optimizer(torch.optim.SGD(weights, lr=0.1), tmp_path)


def test_an_optimizer_in_several_files_is_not_looked_at(tmp_path):
    check_same_optimizer(adamw(0.1), tmp_path)
