"""Arguments of a distillation run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from hf_lrcompress.distillation.loss_table import LOSSES, that_compare_sentences, that_need, that_read, unit_of

DISTILLATION_LOSSES = ("mse", "kl")
DISTILLATION_POSITIONS = ("all", "masked")
SENTENCE_POOLINGS = ("mean", "cls")

ONLY: dict[str, tuple[Any, str]] = {
    "label_smoothing_factor": (0.0, "the losses are not of logits alone, and mlm is the plain cross-entropy"),
    "batch_eval_metrics": (False, "what is measured of a batch is small already"),
    "bf16_full_eval": (False, "it would round the student's weights for good; bf16 alone computes in bf16"),
    "fp16_full_eval": (False, "it would round the student's weights for good; fp16 alone computes in fp16"),
    "eval_do_concat_batches": (True, "the losses of an evaluation are means over all of its batches"),
}
"""Arguments of a Trainer that have one value here, and why."""


@dataclass
class DistillationConfig(TrainingArguments):
    """[`~transformers.TrainingArguments`] and what a [`DistillationTrainer`] needs besides.

    The loss is `alpha` · masked LM + (1 − `alpha`) · `distillation_loss`, or any other sum, given as `losses`.

    Args:
        losses (`dict[str, float]` or `str`, *optional*):
            Weight of each loss, a mapping or JSON, instead of `alpha`. One that is left out is not computed; one of weight 0 is
            reported only.

            - `mlm`: cross-entropy, mean over masked tokens. Needs no teacher. Without it no token is masked.
            - `logits_mse`: squared error of the logits, mean over tokens and the whole vocabulary.
            - `logits_kl`: KL(teacher ‖ student) of the tokens' distributions × temperature², mean over tokens.
            - `relations`: KL of the self-attention relations of queries, keys and values, mean over tokens (MiniLMv2).
            - `hidden_cosine`: 1 − cosine of centred hidden states, mean over tokens, weighted mean over depths.
            - `hidden_mse`: squared error of hidden states over the teacher's variance, the same means.
            - `sentence_cosine`: 1 − cosine of centred pooled last hidden states, mean over sentences.
            - `sentence_similarity`: 1 − correlation of a sentence's similarities to the others that a process computes at once
              with the teacher's, mean over sentences. Nothing is projected. Batches must have three sentences; of a shorter last
              one the loss counts as 0.

            For `hidden_cosine`, `hidden_mse` and `sentence_cosine` the student's states go through an affine map, one for each
            depth, that starts as the least-squares map to the teacher's and is trained along; it is not saved with the student.
            The last depth weighs 1, the embeddings and all others ¼. Without a masked-LM head a model has the losses of
            attention, hidden states and sentences.
        alpha (`float`, *optional*):
            Weight of the masked-LM loss, 0.5 where nothing is given; the distillation loss gets `1 - alpha`. With 1 no teacher
            is needed: plain MLM training.
        distillation_loss (`str`, *optional*, defaults to `"mse"`): With `alpha`: `"mse"` is `logits_mse`, `"kl"` is `logits_kl`.
        distillation_positions (`str`, *optional*, defaults to `"all"`):
            The tokens that the means of logit losses are over: `"all"` but padding, as in the paper, or only the `"masked"` ones.
        temperature (`float`, *optional*, defaults to 1.0): Divides the logits in the KL loss.
        sentence_pooling (`str`, *optional*, defaults to `"mean"`):
            What a sentence is in `sentence_cosine` and `sentence_similarity`: the `"mean"` of its tokens' states, or `"cls"`, the
            state of the first.
        relation_heads (`int`, *optional*):
            Heads that `relations` splits both models' queries, keys and values into; the student's own number by default.
        relation_layer (`int`, *optional*, defaults to -1): The teacher's layer for `relations`, from 0; -1 is the last.
        hidden_layers (`list[int]`, *optional*):
            For each hidden state of the student (after the embeddings and every layer) the teacher's hidden state to compare it
            with: 0 after its embeddings, i after its layer i. By default the one at the same relative depth.
        head_steps (`int`, *optional*, defaults to 0):
            For so many steps only the head learns, then everything. The encoder's warm-up begins after them.
        mlm_probability (`float`, *optional*, defaults to 0.15): Share of tokens to mask, where no `data_collator` is given.
        disable_dropout (`bool`, *optional*, defaults to `False`):
            Train the student without dropout. The saved config keeps its dropout for whoever fine-tunes the model.
        auto_find_batch_size (`bool`, *optional*, defaults to `False`):
            Take smaller batches, accumulated more often, where the first step does not fit: see [`BatchFindingTrainer`].
        logging_nan_inf_filter, tf32 (`bool`, *optional*, default to `False`):
            Two of `TrainingArguments` with other defaults: the loss is looked at in every step anyway, and `torch_compile` would
            switch TF32 on for the whole process.

    Raises:
        ValueError: If a value is out of its range, or both `losses` and `alpha` are given.
    """

    losses: dict[str, float] | str | None = field(default=None, metadata={"help": "Weight of each loss, instead of alpha."})
    alpha: float | None = field(default=None, metadata={"help": "Weight of the masked-LM loss, 0 to 1; 0.5 without losses."})
    distillation_loss: str = field(default="mse", metadata={"help": "'mse' or 'kl'."})
    temperature: float = field(default=1.0, metadata={"help": "Divides the logits in the KL loss."})
    distillation_positions: str = field(default="all", metadata={"help": "'all' or 'masked'."})
    sentence_pooling: str = field(default="mean", metadata={"help": "'mean' of a sentence's states, or 'cls', the first."})
    relation_heads: int | None = field(default=None, metadata={"help": "Heads of the relations loss."})
    relation_layer: int = field(default=-1, metadata={"help": "The teacher's layer for the relations loss; -1 is the last."})
    hidden_layers: list[int] | None = field(
        default=None, metadata={"help": "The teacher's hidden state for each of the student's."}
    )
    head_steps: int = field(default=0, metadata={"help": "Steps in which only the head learns."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to mask."})
    disable_dropout: bool = field(default=False, metadata={"help": "Train the student without dropout."})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "No loss is left out of the log."})
    tf32: bool | None = field(default=False, metadata={"help": "TF32 products on a GPU, which logits_mse cannot do with."})

    def __post_init__(self) -> None:
        _check_choice("distillation_loss", self.distillation_loss, DISTILLATION_LOSSES)
        _check_choice("distillation_positions", self.distillation_positions, DISTILLATION_POSITIONS)
        _check_choice("sentence_pooling", self.sentence_pooling, SENTENCE_POOLINGS)
        if isinstance(self.losses, str):
            self.losses = _read_losses(self.losses)
        if self.losses is None:
            self.alpha = 0.5 if self.alpha is None else self.alpha
            if not _is_number(self.alpha) or not 0 <= self.alpha <= 1:
                raise ValueError(f"alpha must be from 0 (distillation only) to 1 (masked LM only), got {self.alpha!r}")
        else:
            _check_losses(self.losses, self.alpha)
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not 0 < self.mlm_probability < 1:
            raise ValueError(f"mlm_probability must be between 0 and 1, got {self.mlm_probability}")
        if self.tf32 and "logits_mse" in self.loss_weights:
            raise ValueError("tf32 is too coarse for logits_mse, a difference of large products; leave it out, or use logits_kl")
        _check_whole("relation_heads", self.relation_heads, least=1)
        _check_whole("relation_layer", self.relation_layer, least=-1)
        _check_whole("head_steps", self.head_steps, least=0)
        for index in self.hidden_layers or ():
            _check_whole("hidden_layers", index, least=0)
        for name, (only, why) in ONLY.items():
            if getattr(self, name) != only:
                raise ValueError(f"{name} must be {only}: {why}")
        super().__post_init__()
        self._take_checkpointing_that_keeps_graphs()
        if self.torch_compile and that_need("attention", self.loss_weights):
            raise ValueError("relations are read inside the layers, which cannot be compiled then; set torch_compile=False")
        for loss in that_compare_sentences(self.loss_weights):
            least = LOSSES[loss].least_sentences
            for name in ("per_device_train_batch_size", "per_device_eval_batch_size"):
                size = getattr(self, name)
                if size < least:
                    raise ValueError(f"{loss} compares the sentences of a batch: {name} must be {least} or more, got {size}")

    def _take_checkpointing_that_keeps_graphs(self) -> None:
        """Checkpoint activations without reentrant passes: what such a pass shows of a layer's inside has no gradient."""
        name = "activation_checkpointing" if hasattr(self, "activation_checkpointing") else "gradient_checkpointing"
        if not getattr(self, name):
            return
        settings = {"use_reentrant": False} | (getattr(self, f"{name}_kwargs") or {})
        if settings["use_reentrant"] and that_need("attention", self.loss_weights):
            raise ValueError("relations have no gradient where use_reentrant is true; set it to false, or leave it out")
        setattr(self, f"{name}_kwargs", settings)

    @property
    def loss_weights(self) -> dict[str, float]:
        """The losses to compute, by name, and their weights: `losses`, or what `alpha` stands for."""
        weights = self.losses
        assert not isinstance(weights, str)  # see __post_init__
        if weights is None:
            assert self.alpha is not None  # see __post_init__
            weights = {"mlm": self.alpha}
            if self.alpha < 1:
                weights[f"logits_{self.distillation_loss}"] = 1 - self.alpha
        return {name: float(weights[name]) for name in LOSSES if name in weights}

    @property
    def compared(self) -> list[str]:
        """The losses that compare with a teacher."""
        return [name for name in self.loss_weights if LOSSES[name].needs_teacher]

    @property
    def needs_teacher(self) -> bool:
        """Whether any of the losses compares with a teacher."""
        return bool(self.compared)

    @property
    def evaluated(self) -> list[str]:
        """What an evaluation measures, by the names that `metric_for_best_model` may have, with or without `eval_`."""
        of_masked_tokens = ["mlm_accuracy"] if "mlm" in self.loss_weights else []
        return ["loss", *of_masked_tokens, *(f"{name}_loss" for name in self.loss_weights)]

    def reads(self, setting: str) -> bool:
        """Whether any of the losses reads an argument that is there for losses; an `alpha` of 1 may be one of several.

        Args:
            setting (`str`): Name of the argument.
        """
        if setting == "mlm_probability":
            return self.needs_masked_tokens
        if setting == "distillation_loss":
            return self.losses is None
        names = self.losses or {"mlm", f"logits_{self.distillation_loss}"}
        return any(name in names for name in that_read(setting))

    @property
    def needs_masked_tokens(self) -> bool:
        """Whether any of the losses is a mean over masked tokens; if none is, nothing is masked."""
        return any(unit_of(name, self.distillation_positions) == "masked_tokens" for name in self.loss_weights)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_losses(text: str) -> Any:
    """The losses of a command line, such as `{"mlm": 1.0}`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'losses must be JSON, such as {{"mlm": 0.5, "logits_mse": 0.5}}, got {text!r}') from error


def _check_losses(losses: Any, alpha: float | None) -> None:
    if alpha is not None:
        raise ValueError(f"alpha={alpha} and losses are both given; alpha stands for {{mlm: alpha, logits_mse: 1 - alpha}}")
    if not isinstance(losses, dict) or not losses:
        raise ValueError(f"losses must be names and weights, such as {{mlm: 0.5, logits_mse: 0.5}}, got {losses!r}")
    for name, weight in losses.items():
        _check_choice("a name in losses", name, tuple(LOSSES))
        if not _is_number(weight) or not 0 <= weight < float("inf"):
            raise ValueError(f"losses: the weight of {name} must be a number from 0, got {weight!r}")
    if not any(losses.values()):
        raise ValueError("losses: all weights are 0, so nothing would be learnt")


def _check_whole(name: str, value: Any, least: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ValueError(f"{name} must be a whole number, {least} or more, got {value!r}")


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
