"""The sections of the training methods."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from trainer.config.section import Section

Factor = Annotated[float, Field(ge=1.0, le=16.0)]
Placement = Literal["uniform", "first", "middle", "last"]


class NetAugConfig(Section):
    """NetAug (Cai et al., ICLR 2022): the tiny network learns as part of wider ones.

    `width` and `expand` list the factors to draw from, 1.0 first; `alpha` weighs the loss of the drawn
    network. Widths are drawn in the first `random_epochs` epochs (None: the paper's 80 of 155; all, where
    there are no expansions), after which only expansions are. `sort` orders hidden channels by importance
    before each of those epochs (None: unless the weights are trained ones, from `train.initial`: sorting
    would trade their channels for others).
    `calibration_images` is how many training images re-estimate the BatchNorm statistics of the tiny network.
    """

    width: Annotated[tuple[Factor, ...], Field(min_length=1)] = (1.0, 1.8, 2.6)
    expand: Annotated[tuple[Factor, ...], Field(min_length=1)] = (1.0, 1.6, 2.2, 2.8)
    alpha: Annotated[float, Field(ge=0)] = 1.0
    random_epochs: Annotated[int, Field(ge=0)] | None = None
    sort: bool | None = None
    sort_momentum: bool = True
    calibration_images: Annotated[int, Field(ge=2)] = 16_000

    @model_validator(mode="after")
    def _starts_at_one(self) -> Self:
        for name, factors in (("width", self.width), ("expand", self.expand)):
            if factors[0] != 1.0:
                raise ValueError(
                    f"netaug.{name} must start with 1.0, the tiny network; it starts with {factors[0]}"
                )
        return self


class ExpansionConfig(Section):
    """Which layers of a network become deeper blocks, and which blocks (Yu et al., DAC 2023, section 3.3).

    `fraction` of the candidates, at least one, are expanded, at the places that `placement` says. The hidden
    width of a block is `ratio` times the layer's input width. `layers` names the candidates; None finds the
    expansions of inverted residual blocks and the first layers of feed-forward networks. `activation` is
    that of the block; None takes the one that follows the layer in the network.
    """

    block: Literal["inverted_residual", "basic", "bottleneck"] = "inverted_residual"
    placement: Placement = "uniform"
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    ratio: Annotated[int, Field(ge=1, le=64)] = 6
    layers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    activation: Literal["relu", "relu6", "hard_swish", "gelu"] | None = None


class NetBoosterConfig(ExpansionConfig):
    """NetBooster (Yu et al., DAC 2023): the tiny network is trained as a deep giant and contracted again.

    The giant trains for `giant_epochs` (None: the paper's 160 of 310), then its inserted activations decay
    to the identity over `decay_epochs` (None: 40 of 310; 0 removes them at once), and the rest of the epochs
    finetunes. With the decay, the learning rate starts anew at `plt_learning_rate` (None: learning_rate).

    `start` "giant" takes the giant that an earlier training left in `train.initial`, for another dataset as
    well; `giant_epochs` None are then 0. `decay_share` gives `decay_epochs` as a share of all epochs (None:
    0.2 from a giant on, section 4.1). Method netbooster_netaug widens networks in `netaug_phase`.
    """

    start: Literal["tiny", "giant"] = "tiny"
    giant_epochs: Annotated[int, Field(ge=0)] | None = None
    decay_epochs: Annotated[int, Field(ge=0)] | None = None
    decay_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    netaug_phase: Literal["giant", "finetuning"] = "finetuning"
    plt_learning_rate: PositiveFloat | None = None

    @model_validator(mode="after")
    def _phases_are_clear(self) -> Self:
        if self.start == "tiny" and self.giant_epochs == 0:
            raise ValueError('netbooster.giant_epochs 0 needs netbooster.start = "giant"')
        if self.decay_epochs is not None and self.decay_share is not None:
            raise ValueError("netbooster: give decay_epochs or decay_share, not both")
        return self


class RocketLaunchConfig(Section):
    """RocketLaunch (Zhou et al., AAAI 2018): the tiny network shares its lower blocks with a booster.

    `shared` is the share of the blocks that both have; in the booster's further blocks, widths are multiplied
    by `width`, and `depth` blocks take the place of each with a shortcut. `hint` weighs the squared
    difference of the logits, which only the tiny network learns from.
    """

    shared: Annotated[float, Field(ge=0, lt=1)] = 0.5
    width: Factor = 2.0
    depth: Annotated[int, Field(ge=1, le=8)] = 1
    hint: Annotated[float, Field(ge=0)] = 0.03
