from __future__ import annotations

from benchmarks.loader import Shares, measure
from tools.config import RunConfig
from trainer.config import DataConfig, ModelConfig, TrainConfig


def test_all_but_the_first_step_are_counted():
    config = RunConfig(
        data=DataConfig(name="digits", train_limit=48, flip=True),
        model=ModelConfig(name="resnet8"),
        train=TrainConfig(batch_size=16, threads=1),
    )
    result = measure(config, steps=5)
    assert result.images == 5 * 16
    assert result.waiting > 0
    assert result.computing > 0


def test_shares_are_of_the_whole_time():
    assert str(Shares(1.0, 3.0, 8000)) == "2,000 images/s; waits 25.0% of the time, computes 75.0%"
