"""Drawing of catalogue products: flat shapes with pattern, badge, shadow and light on a background."""

from scot_core.catalogue.drawing.render import draw_png, render

__all__ = ["draw_png", "render"]
