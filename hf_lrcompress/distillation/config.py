"""Arguments of a distillation run."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

DISTILLATION_LOSSES = ("mse", "kl")
DISTILLATION_POSITIONS = ("all", "masked")
FEATURE_LOSSES = ("hidden_mse", "hidden_cosine", "relations")


@dataclass
class DistillationConfig(TrainingArguments):
    """[`~transformers.TrainingArguments`] and what a [`DistillationTrainer`] needs besides.

    Args:
        alpha (`float`, *optional*, defaults to 0.5):
            Weight of the masked-LM loss; the distillation loss gets `1 - alpha`. With 1 no teacher is needed: plain MLM training.
        distillation_loss (`str`, *optional*, defaults to `"mse"`):
            `"mse"`: mean squared error between student and teacher logits over tokens and the whole vocabulary;
            `"kl"`: KL(teacher ‖ student) × temperature², mean over tokens.
        distillation_positions (`str`, *optional*, defaults to `"all"`):
            The tokens that mean is over: `"all"` but padding, as in the paper, or only the `"masked"` ones.
        temperature (`float`, *optional*, defaults to 1.0): Divides the logits in the KL loss.
        feature_loss (`str`, *optional*):
            A further loss, mean over all tokens: `"hidden_mse"` or `"hidden_cosine"` between hidden states, each of the student's
            compared with the teacher's at the same relative depth through a learned projection where the sizes differ; or
            `"relations"` between queries, keys and values of the last layers (see `feature_losses.py`).
        feature_weight (`float`, *optional*, defaults to 1.0): Its weight; it is added to the other two.
        mlm_probability (`float`, *optional*, defaults to 0.15): Share of tokens to mask, where no `data_collator` is given.
        disable_dropout (`bool`, *optional*, defaults to `False`):
            Train the student without dropout. The saved config keeps its dropout for whoever fine-tunes the model.

    Raises:
        ValueError: If a value is out of its range.
    """

    alpha: float = field(default=0.5, metadata={"help": "Weight of the masked-LM loss, 0 to 1."})
    distillation_loss: str = field(default="mse", metadata={"help": "'mse' or 'kl'."})
    temperature: float = field(default=1.0, metadata={"help": "Divides the logits in the KL loss."})
    distillation_positions: str = field(default="all", metadata={"help": "'all' or 'masked'."})
    feature_loss: str | None = field(default=None, metadata={"help": "'hidden_mse', 'hidden_cosine' or 'relations'."})
    feature_weight: float = field(default=1.0, metadata={"help": "Weight of the feature loss."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to mask."})
    disable_dropout: bool = field(default=False, metadata={"help": "Train the student without dropout."})

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be from 0 (distillation only) to 1 (masked LM only), got {self.alpha}")
        _check_choice("distillation_loss", self.distillation_loss, DISTILLATION_LOSSES)
        _check_choice("distillation_positions", self.distillation_positions, DISTILLATION_POSITIONS)
        _check_choice("feature_loss", self.feature_loss, (*FEATURE_LOSSES, None))
        if self.feature_weight <= 0:
            raise ValueError(f"feature_weight must be above 0, got {self.feature_weight}; leave out feature_loss to have none")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not 0 < self.mlm_probability < 1:
            raise ValueError(f"mlm_probability must be between 0 and 1, got {self.mlm_probability}")
        super().__post_init__()

    @property
    def needs_teacher(self) -> bool:
        """Whether any of the losses compares with a teacher."""
        return self.alpha < 1 or self.feature_loss is not None


def _check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
