"""Where the instructions of an inference go: by layer, function, source line and kind of instruction."""

from __future__ import annotations

from tools.profile.collect import LayerUse, Profile, collect
from tools.profile.page import render_profile

__all__ = ["LayerUse", "Profile", "collect", "render_profile"]
