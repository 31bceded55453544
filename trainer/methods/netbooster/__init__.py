"""NetBooster: expand a tiny network into a deep giant, train that, and contract it again.

Yu et al., NetBooster: Empowering Tiny Deep Learning By Standing on the Shoulders of Deep Giants, DAC 2023.
"""

from __future__ import annotations

from trainer.methods.netbooster.contraction import ContractionError, contract
from trainer.methods.netbooster.expansion import ExpandedLayer, ExpansionError, expand, expandable_layers
from trainer.methods.netbooster.homotopy import set_slope
from trainer.methods.netbooster.method import NetBooster

__all__ = [
    "ContractionError",
    "ExpandedLayer",
    "ExpansionError",
    "NetBooster",
    "contract",
    "expand",
    "expandable_layers",
    "set_slope",
]
