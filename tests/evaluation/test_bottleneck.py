"""Our own adapters: those of the library `adapters` in every family that it knows, and in all families what they promise."""

import pytest
import torch
from conftest import MODEL_TYPES, randomise, tiny_config
from transformers import AutoModelForTokenClassification, PreTrainedModel

from hf_lrcompress.evaluation.adapters import adapter_parameters, add_task_adapter
from hf_lrcompress.evaluation.bottleneck import add_bottlenecks
from hf_lrcompress.models.architectures import layers_of

FACTOR = 5  # 24 / 5 is no whole number
UNKNOWN_TO_THE_LIBRARY = {"camembert", "eurobert", "mpnet", "rembert", "xlm-roberta-xl"}


def tagger(model_type: str) -> PreTrainedModel:
    model = AutoModelForTokenClassification.from_config(tiny_config(model_type, num_labels=3))
    return randomise(model).eval()


def adapted(model_type: str, add) -> PreTrainedModel:
    model = tagger(model_type)
    torch.manual_seed(0)
    add(model, FACTOR)
    return model.eval()  # the library leaves it in train mode


def add_those_of_the_library(model: PreTrainedModel, reduction_factor: int) -> None:
    adapters = pytest.importorskip("adapters", reason="the library adapters is not installed (it needs transformers 4.57)")
    known = {name for name, _ in model.named_parameters()}
    adapters.init(model)
    for name, parameter in model.named_parameters():
        if name not in known:  # the bias that it adds to ModernBERT's Wqkv and never sets
            torch.nn.init.zeros_(parameter)
    model.add_adapter("task", config=adapters.SeqBnConfig(reduction_factor=reduction_factor))
    model.train_adapter("task")


def adapters_of(model: PreTrainedModel) -> list[torch.nn.Parameter]:
    """Down and up, weight and bias, layer by layer, in the order in which they were made."""
    return [parameter for name, parameter in model.named_parameters() if ".adapters." in name]


def logits_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**inputs).logits[inputs["attention_mask"].bool()]


@pytest.mark.parametrize("model_type", [name for name in MODEL_TYPES if name not in UNKNOWN_TO_THE_LIBRARY])
def test_our_adapters_are_those_of_the_library(model_type, inputs):
    theirs, ours = adapted(model_type, add_those_of_the_library), adapted(model_type, add_bottlenecks)
    pairs = list(zip(adapters_of(theirs), adapters_of(ours), strict=True))
    assert adapter_parameters(theirs) == adapter_parameters(ours) > 0
    for their, our in pairs:
        assert their.shape == our.shape and their.requires_grad and our.requires_grad
    for weights in ([their for their, _ in pairs[::2]], [our for _, our in pairs[::2]]):  # the draws differ: theirs waste some
        assert torch.cat([weight.flatten() for weight in weights]).std().item() == pytest.approx(0.02, rel=0.2)
    assert not any(bias.any() for pair in pairs[1::2] for bias in pair)
    heads = [{name for name, parameter in model.named_parameters() if parameter.requires_grad} for model in (theirs, ours)]
    assert {name for name in heads[0] if ".adapters." not in name} == {name for name in heads[1] if ".adapters." not in name}
    for their, our in pairs:  # initial adapters do next to nothing
        with torch.no_grad():
            our.copy_(their.normal_(std=0.5))
    expected, actual = logits_of(theirs, inputs), logits_of(ours, inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert (expected - logits_of(tagger(model_type), inputs)).abs().max() > 0.1
    for model in (theirs, ours):
        logits_of(model, inputs).square().sum().backward()
    for their, our in pairs:
        torch.testing.assert_close(our.grad, their.grad, rtol=1e-3, atol=1e-3)


def test_adapters_of_zero_change_nothing_and_nothing_runs_back_below_them(model_type, inputs):
    ours, plain = adapted(model_type, add_bottlenecks), tagger(model_type)
    layers = len(layers_of(ours))
    assert adapter_parameters(ours) == layers * (2 * 24 * 4 + 24 + 4)
    with torch.no_grad():
        for parameter in adapters_of(ours)[2::4]:
            assert parameter.shape == (24, 4) and parameter.std() == pytest.approx(0.02, rel=0.4)
            parameter.zero_()
    torch.testing.assert_close(logits_of(ours, inputs), logits_of(plain, inputs))
    seen = []
    layers_of(ours)[0].register_forward_pre_hook(lambda layer, args: seen.append(args[0].requires_grad))
    logits_of(ours, inputs).sum().backward()
    assert not seen[0]
    assert all(parameter.grad is not None for parameter in adapters_of(ours)[2:])


@pytest.mark.parametrize("model_type", [name for name in MODEL_TYPES if " " not in name])
def test_add_task_adapter_takes_every_family(model_type):
    model = adapted(model_type, add_task_adapter)
    assert adapter_parameters(model) == adapter_parameters(adapted(model_type, add_bottlenecks))
