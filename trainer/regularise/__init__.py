"""Dropout and DropBlock for any network and method, without a change to either."""

from trainer.regularise.method import regularise

__all__ = ["regularise"]
