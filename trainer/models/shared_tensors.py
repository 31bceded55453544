"""Networks in which two names mean one tensor."""

from __future__ import annotations

from torch import nn

from common.errors import ConfigError


def refuse_shared_tensors(network: nn.Module) -> None:
    """Raise ConfigError, with both names, where two entries of the state dict are one tensor.

    Files hold a tensor by one name, and a layer that is replaced under one name stays under the other. A
    module that is applied several times under one name is none of them.
    """
    names: dict[int, str] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        first = names.setdefault(tensor.untyped_storage().data_ptr() or id(tensor), name)
        if first != name:
            raise ConfigError(
                f"{type(network).__name__}: {first} and {name} are one tensor: give the module, or the "
                "weight, one name, and apply it as often as is needed"
            )
