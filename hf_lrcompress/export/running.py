"""An ONNX file as a model."""

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn


class OnnxModel(nn.Module):
    """Runs an ONNX file on the CPU, with as many threads as torch has, and gives what the model of transformers does.

    It can take that model's place where states or logits are measured.

    Args:
        path (`Path`): The file.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnxruntime  # here: it is optional

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_inputs()]
        self.output = self._session.get_outputs()[0].name  # of an encoder with a pooler the states, which come first

    @property
    def base_model(self) -> "OnnxModel":
        """Itself: a graph has no parts."""
        return self

    def forward(self, **inputs: torch.Tensor) -> SimpleNamespace:
        """What the graph gives, by its name; of the inputs those that it takes.

        Args:
            inputs (`torch.Tensor` of shape `(batch, sequence)`): What a tokenizer makes.
        """
        (output,) = self._session.run([self.output], {name: inputs[name].numpy() for name in self._names})
        return SimpleNamespace(**{self.output: torch.from_numpy(output)})
