"""NetBooster and NetAug together: either the giant, or what is finetuned, is a part of wider networks."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import Tensor, nn
from torch.optim import Optimizer

from common.errors import ConfigError
from trainer.average import AVERAGE, averaged, averaged_tensors
from trainer.config import ExpansionConfig
from trainer.methods.base import Method, MethodContext, StepResult
from trainer.methods.elastic import ElasticBatchNorm2d, ElasticConv2d, ProportionalConv2d, slice_into
from trainer.methods.elastic_family import Factors, TableFamily, refuse_lite_residuals
from trainer.methods.netaug import NetAug
from trainer.methods.netbooster import ExpandedLayer, NetBooster, contract, expand, set_slope
from trainer.methods.netbooster.expansion import pair
from trainer.methods.netbooster.homotopy import is_linear
from trainer.models.network import InvertedResidualNetwork
from trainer.objectives import BatchLoss

_WIDENED = ("stem.conv", "expand.conv", "last.conv")


class NetBoosterNetAug:
    """Giant, decay and finetuning as in NetBooster; NetAug takes the place of the first or the last.

    "finetuning": the contracted network becomes the first channels of the largest network, whose other
    weights are new. "giant": the giant is the first channels of a wider one, which is dropped before the
    decay; the giant's BatchNorm statistics, to which wider ones added, are then estimated anew.

    Both networks are there from the beginning, so that the optimizer and checkpoints know them; one of them
    trains at a time.
    """

    def __init__(self, context: MethodContext) -> None:
        self._booster = NetBooster(context)
        self._calibration = context.calibration
        self._widens_giant = context.train.netbooster.netaug_phase == "giant"
        if self._widens_giant:
            self._epochs = range(self._booster.giant_epochs)
            if not self._epochs:
                raise ConfigError(
                    'train.netbooster.netaug_phase is "giant", but giant_epochs are 0: use "finetuning"'
                )
            family = _giant_family(context)
            initial = context.train.initial is not None
            self._augmented = NetAug(context, epochs=self._epochs, family=family, trained=initial)
            if initial:
                self._augmented.set_tiny(self._booster.network)
        else:
            self._epochs = range(self._booster.linear_epoch, context.train.epochs)
            self._augmented = NetAug(context, epochs=self._epochs, trained=True)
        self._in_giant_phase = False
        self.network: nn.Module = nn.ModuleDict(
            {"giant": self._booster.network, "augmented": self._augmented.network}
        )
        self.restarts = self._booster.restarts
        self.calibration_images = max(self._booster.calibration_images, self._augmented.calibration_images)

    @property
    def phase(self) -> str:
        """NetBooster's."""
        return self._booster.phase

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:
        """Hand the network over where the phase of NetAug begins or ends."""
        self._in_giant_phase = epoch < self._booster.giant_epochs
        if self._widens_giant and epoch == self._epochs.stop:
            with averaged(self._augmented.network, optimizer):
                giant = self._augmented.tiny_network(self._calibration(self._augmented.calibration_images))
            self._booster.network.load_state_dict(giant.state_dict())
            _forget_averages(self._booster.network, optimizer)
        if not self._widens_giant and epoch == self._epochs.start:
            set_slope(self._booster.network, 1.0)
            self._augmented.set_tiny(contract(self._booster.network))
            _forget_averages(self._augmented.network, optimizer)
        if epoch in self._epochs:
            self._augmented.start_epoch(epoch, optimizer)
        self._booster.start_epoch(epoch, optimizer)

    def backward(self, images: Tensor, loss: BatchLoss, epoch: int, step: int) -> StepResult:
        """Add the gradients of the method whose phase it is."""
        method: Method = self._augmented if epoch in self._epochs else self._booster
        return method.backward(images, loss, epoch, step)

    def tiny_network(self, batches: Iterable[Tensor]) -> nn.Module:
        """Before the end of the decay a copy of the giant, then the tiny network."""
        augmented = self._in_giant_phase if self._widens_giant else is_linear(self._booster.network)
        method: Method = self._augmented if augmented else self._booster
        return method.tiny_network(batches)


class GiantFamily(TableFamily):
    """Giants of networks of inverted residual blocks, as wide as these; inner widths follow the input's."""

    def __init__(
        self, plain: InvertedResidualNetwork, config: ExpansionConfig, width: Factors, expansion: Factors
    ) -> None:
        super().__init__(plain, width, expansion)
        giant = expand(self.network, config)
        assert isinstance(giant, InvertedResidualNetwork)
        self.network = giant
        self._tiny_giant = expand(plain, config)
        for name, block in giant.named_modules():
            if isinstance(block, ExpandedLayer):
                if not name.endswith(_WIDENED):
                    raise ConfigError(
                        f'train.netbooster.netaug_phase = "giant" does not widen {name!r}: name others in '
                        f'train.netbooster.layers, that end in {", ".join(_WIDENED)}, or use "finetuning"'
                    )
                _make_elastic(block)

    def tiny_network(self) -> nn.Module:
        """The giant of the plain network: the first channels, copied."""
        giant = copy.deepcopy(self._tiny_giant)
        slice_into(giant, self.network)
        return giant.to(self.network.classifier.weight.device)


def _giant_family(context: MethodContext) -> GiantFamily:
    plain, train = context.plain, context.train
    if not isinstance(plain, InvertedResidualNetwork):
        raise ConfigError(
            'train.netbooster.netaug_phase = "giant" widens networks of inverted residual blocks; '
            f'model {context.model.name!r} is none: use "finetuning"'
        )
    refuse_lite_residuals(plain)
    return GiantFamily(plain, train.netbooster, train.netaug.width, train.netaug.expand)


def _make_elastic(block: ExpandedLayer) -> None:
    """Replace the layers of a block by elastic ones, whose weights are drawn anew later."""
    last = len(block) - 1
    for index, layer in enumerate(block):
        if isinstance(layer, nn.BatchNorm2d):
            block[index] = ElasticBatchNorm2d(layer.num_features, layer.eps, layer.momentum)
        elif isinstance(layer, nn.Conv2d):
            kind = ProportionalConv2d if layer.groups == 1 and index < last else ElasticConv2d
            block[index] = kind(
                layer.in_channels,
                layer.out_channels,
                pair(layer.kernel_size),
                pair(layer.stride),
                pair(layer.padding),  # type: ignore[arg-type] # a str is refused when layers are expanded
                groups=layer.groups,
                bias=layer.bias is not None,
            )


def _forget_averages(network: nn.Module, optimizer: Optimizer) -> None:
    """Of what the network was before others' weights were put in."""
    for tensor in averaged_tensors(network):
        optimizer.state.get(tensor, {}).pop(AVERAGE, None)
