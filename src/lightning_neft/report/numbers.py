"""Numbers as the page shows them."""

from __future__ import annotations

__all__ = ["MISSING", "alpha_name", "count", "fixed", "number", "share"]

MISSING = "—"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with this many significant digits, without an exponent if possible.

    Example:
        >>> number(1234.56), number(0.123456), number(None)
        ('1,235', '0.1235', '—')
    """
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def fixed(value: float | None, decimals: int = 4) -> str:
    """Return a number with this many decimals, for columns to compare.

    Example:
        >>> fixed(1.5), fixed(1.5, decimals=1)
        ('1.5000', '1.5')
    """
    return MISSING if value is None else f"{value:,.{decimals}f}"


def count(value: float | None) -> str:
    """Return a whole number.

    Example:
        >>> count(12805.0)
        '12,805'
    """
    return MISSING if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """Return a fraction in percent.

    Example:
        >>> share(0.0512)
        '5.1 %'
    """
    return MISSING if value is None else f"{100 * value:.1f} %"


def alpha_name(alpha: float) -> str:
    """Return the name of all arms with one alpha.

    Example:
        >>> alpha_name(5.0)
        'alpha 5'
    """
    return f"alpha {alpha:g}"
