"""NetBooster, then NetAug: what the giant has taught is finetuned as a part of wider networks."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.average import AVERAGE, averaged_tensors
from trainer.methods.base import MethodContext, StepResult
from trainer.methods.netaug import NetAug
from trainer.methods.netbooster import NetBooster, contract, set_slope
from trainer.methods.netbooster.homotopy import is_linear
from trainer.objectives import BatchLoss


class NetBoosterNetAug:
    """Giant and decay as in NetBooster; the contracted network is then finetuned by NetAug.

    It becomes the first channels of the largest network, whose other weights are new; hidden channels are not
    sorted, which would trade trained ones for others, unless `netaug.sort` says so. Both networks are there
    from the beginning, so that the optimizer and checkpoints know them; one of them trains at a time.
    """

    def __init__(self, context: MethodContext) -> None:
        self._booster = NetBooster(context)
        self._first_epoch = self._booster.linear_epoch
        self._augmented = NetAug(context, first_epoch=self._first_epoch)
        self.network: nn.Module = nn.ModuleDict(
            {"giant": self._booster.network, "augmented": self._augmented.network}
        )
        self.restarts = self._booster.restarts
        self.calibration_images = max(self._booster.calibration_images, self._augmented.calibration_images)

    def start_epoch(self, epoch: int, optimizer: Optimizer) -> None:
        """Hand the contracted network over to NetAug when the decay has ended."""
        if epoch <= self._first_epoch:
            self._booster.start_epoch(epoch, optimizer)
        if epoch == self._first_epoch:
            set_slope(self._booster.network, 1.0)
            self._augmented.set_tiny(contract(self._booster.network))
            for tensor in averaged_tensors(self._augmented.network):
                optimizer.state.get(tensor, {}).pop(AVERAGE, None)  # of what the network was before
        if epoch >= self._first_epoch:
            self._augmented.start_epoch(epoch, optimizer)

    def backward(self, images: Tensor, loss: BatchLoss, epoch: int, step: int) -> StepResult:
        """Add the gradients of the method whose phase it is."""
        method = self._booster if epoch < self._first_epoch else self._augmented
        return method.backward(images, loss, epoch, step)

    def tiny_network(self, batches: Iterable[Tensor]) -> nn.Module:
        """Before the end of the decay a copy of the giant, then the tiny slice."""
        method = self._augmented if is_linear(self._booster.network) else self._booster
        return method.tiny_network(batches)
