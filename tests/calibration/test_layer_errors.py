"""Layers chosen by what the last hidden states lose without them."""

import pytest
import torch
from conftest import keep_two_layers, tiny_model

from hf_lrcompress import reduce_layers
from hf_lrcompress.calibration.layer_errors import last_states, measure_layers, unexplained_share
from hf_lrcompress.models.architectures import layers_of


def batches(seed: int = 0) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(5, 101, (8, 12), generator=generator) for _ in range(2)]
    return [{"input_ids": each, "attention_mask": torch.ones_like(each)} for each in ids]


def test_the_share_is_that_of_least_squares():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(400, 6, generator=generator)
    noise = torch.randn(400, 9, generator=generator)
    targets = states @ torch.randn(6, 9, generator=generator) + 3 + noise
    constant = torch.cat([states, torch.ones(400, 1)], dim=1)
    left = targets - constant @ torch.linalg.lstsq(constant, targets).solution
    expected = left.square().sum() / (targets - targets.mean(dim=0)).square().sum()
    assert unexplained_share(states, targets) == pytest.approx(expected.item(), rel=1e-3)
    assert unexplained_share(targets, targets) < 1e-3


def test_layers_that_do_nothing_go_first():
    model = tiny_model("bert")
    with torch.no_grad():
        for layer in (1, 2):
            part = model.bert.encoder.layer[layer]
            for output in (part.attention.output, part.output):
                output.dense.weight.zero_()
                output.dense.bias.zero_()
                output.LayerNorm.weight.fill_(1)
                output.LayerNorm.bias.zero_()
    assert measure_layers(model, 2, batches()) == [0, 3]


@pytest.mark.once
def test_where_kinds_alternate_layers_are_exchanged_for_better_ones():
    """A global layer every third of ModernBERT: without any one layer those behind it are of other kinds."""
    model = tiny_model("modernbert", num_hidden_layers=12)
    with torch.no_grad():
        for layer in layers_of(model)[1:6]:  # these do next to nothing
            layer.attn.Wo.weight.mul_(1e-3)
            layer.mlp.Wo.weight.mul_(1e-3)
    kept = measure_layers(model, 6, batches())
    states = last_states(model, batches())
    shares = [
        unexplained_share(last_states(reduce_layers(model, layers), batches()), states) for layers in (kept, list(range(6)))
    ]
    assert kept[0] == 0 and len(set(kept) & set(range(6, 12))) >= 4
    assert shares[0] < shares[1] / 3


def test_every_family_has_a_choice_that_fits(model, model_type):
    if model_type == "albert":
        with pytest.raises(ValueError, match="all layers of this model share one set of weights"):
            measure_layers(model, 2, batches())
        return
    kept = measure_layers(model, 2, batches())
    assert len(kept) == 2 == len(keep_two_layers(model)) and kept == sorted(kept)


def test_padding_does_not_count():
    model = tiny_model("bert")
    (short,) = ({name: tensor[:, :6] for name, tensor in batch.items()} for batch in batches()[:1])
    padded = {name: torch.nn.functional.pad(tensor, (0, 3)) for name, tensor in short.items()}
    torch.testing.assert_close(last_states(model, [padded]), last_states(model, [short]))
