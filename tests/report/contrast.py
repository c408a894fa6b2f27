"""How far a colour stands out from another one, after WCAG 2.2."""

from __future__ import annotations

from matplotlib.colors import to_rgb

__all__ = ["contrast"]


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2.2."""
    channels = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(colour)]
    return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]


def contrast(one: str, other: str) -> float:
    """Their contrast ratio, 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)
