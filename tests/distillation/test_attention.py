"""The precision of attention in training on a CPU."""

import pytest
import torch
from conftest import keep_two_layers, tiny_model
from tiny_trainers import make_trainer
from torch.nn import functional as F

from hf_lrcompress import reduce_layers
from hf_lrcompress.distillation.attention import attention_for_training

CPU = torch.device("cpu")


def heads(dtype):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 7, 8, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


def without_the_last(visible, hidden, dtype):
    mask = torch.full((2, 1, 7, 7), visible, dtype=dtype)
    mask[..., -1] = hidden
    return mask


MASKS = [None, without_the_last(0, -10_000, torch.bfloat16), without_the_last(True, False, torch.bool)]


@pytest.mark.parametrize("mask", MASKS, ids=["none", "added", "boolean"])
def test_attention_is_computed_in_fp32_though_autocast_says_bf16(mask):
    given = heads(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), attention_for_training(CPU):
        mixed = F.scaled_dot_product_attention(*given, attn_mask=mask)
    assert mixed.dtype == torch.bfloat16
    whole = [tensor.detach().float().requires_grad_() for tensor in given]
    exact_mask = mask.float() if mask is not None and mask.is_floating_point() else mask
    expected = F.scaled_dot_product_attention(*whole, attn_mask=exact_mask)
    assert torch.equal(mixed, expected.bfloat16())
    mixed.float().sum().backward()
    expected.sum().backward()
    for mine, exact in zip(given, whole, strict=True):
        assert torch.equal(mine.grad, exact.grad.bfloat16())


def test_without_gradients_it_stays_in_bf16():
    given = heads(torch.bfloat16)
    fused = F.scaled_dot_product_attention
    with torch.no_grad(), attention_for_training(CPU):
        result = F.scaled_dot_product_attention(*given)
    in_bf16, in_fp32 = fused(*given), fused(*(tensor.float() for tensor in given)).bfloat16()
    assert torch.equal(result, in_bf16) and not torch.equal(in_bf16, in_fp32)


def test_what_is_in_fp32_already_is_left_alone():
    given = heads(torch.float32)
    with attention_for_training(CPU):
        result = F.scaled_dot_product_attention(query=given[0], key=given[1], value=given[2])
    assert torch.equal(result, F.scaled_dot_product_attention(*given))


def test_on_other_devices_and_in_compiled_layers_nothing_is_changed():
    fused = F.scaled_dot_product_attention
    for device, compiled in ((torch.device("cuda"), False), (CPU, True)):
        with attention_for_training(device, compiled):
            assert F.scaled_dot_product_attention is fused


def test_afterwards_all_is_as_before():
    fused = F.scaled_dot_product_attention
    with pytest.raises(KeyError), attention_for_training(CPU):
        assert F.scaled_dot_product_attention is not fused
        raise KeyError
    assert F.scaled_dot_product_attention is fused


def test_layers_that_are_computed_again_for_the_backward_pass_are_computed_alike(tmp_path):
    teacher = tiny_model("bert")
    dataset = [{"input_ids": list(range(5, 5 + length))} for length in (9, 7, 5, 9)]
    losses = []
    for name, checkpointing in (("kept", False), ("again", True)):
        student = reduce_layers(teacher, keep_two_layers(teacher))
        settings = {"bf16": True, "gradient_checkpointing": checkpointing, "max_steps": 3}
        trainer = make_trainer(student, teacher, dataset, tmp_path / name, **settings)
        losses.append(trainer.train().training_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
