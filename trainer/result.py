"""What a training found."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class TrainResult(BaseModel):
    """How the tiny network does after the last epoch, 0..1, on the test samples and on training samples.

    `metric` names what `accuracy` and `train_accuracy` are. `seconds` are of all epochs, those before a
    resume included; `macs` are of one image.
    """

    model_config = ConfigDict(frozen=True)

    accuracy: float
    train_accuracy: float
    epochs: int
    seconds: float
    parameters: int
    macs: int
    metric: str
