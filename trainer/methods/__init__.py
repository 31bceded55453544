"""Training methods. A further one is a file with a class like those here, and its line below."""

from __future__ import annotations

from trainer.methods.base import METHODS, Method, MethodContext, StepResult
from trainer.methods.netaug import NetAug
from trainer.methods.netbooster import NetBooster
from trainer.methods.netbooster_netaug import NetBoosterNetAug
from trainer.methods.plain import Plain
from trainer.methods.rocket_launch import RocketLaunch
from trainer.methods.tinytl import TinyTL

__all__ = ["METHODS", "Method", "MethodContext", "StepResult"]

METHODS.register("plain", Plain)
METHODS.register("netaug", NetAug)
METHODS.register("netbooster", NetBooster)
METHODS.register("netbooster_netaug", NetBoosterNetAug)
METHODS.register("rocket_launch", RocketLaunch)
METHODS.register("tinytl", TinyTL)
