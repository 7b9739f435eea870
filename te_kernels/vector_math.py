"""Elementary functions as TIR arithmetic, so that they vectorise.

LLVM has no vector library here: ``te.exp`` of a vector becomes one call of ``expf`` for each lane, 1.5 ns an element;
these take 0.15 to 0.5 (one Zen 5 core, AVX-512, in L1).

Intermediate values are bound by ``Let``, else chains of such functions would grow exponentially. TIR forbids a second
definition of a variable, so a result of these functions may be used only once: use :func:`let` for more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from tvm import te, tirx

_numbers = itertools.count()


def _f(value: float) -> Any:
    return tirx.const(value, "float32")


def let(value: Any, body: Callable[[Any], Any]) -> Any:
    """``body`` of a float32 ``value`` that is computed once, however often ``body`` uses it."""
    variable = tirx.Var(f"let{next(_numbers)}", "float32")
    return tirx.Let(variable, value, body(variable))


def horner(x: Any, coefficients: list[float]) -> Any:
    """Polynomial in ``x``, highest power first."""
    result = _f(coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + _f(coefficient)
    return result


def exp(x: Any) -> Any:
    """``e**x`` to 2e-7 relative; saturates at 2.4e38 above 88.3 and at 1.2e-38 below -87.3.

    Cephes ``expf``: ``x = n ln 2 + r``, ``|r| <= ln 2 / 2``; a polynomial in ``r``, and ``n`` added to the exponent.
    """

    def from_n(t: Any, n: Any) -> Any:
        # ln 2 in two parts: the first product is exact
        return let(t - n * _f(0.693359375) - n * _f(-2.12194440e-4), lambda r: from_r(n, r))

    def from_r(n: Any, r: Any) -> Any:
        p = horner(r, [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5])
        power_of_two = tirx.reinterpret("float32", (n.astype("int32") + 127) << 23)
        return (p * (r * r) + r + _f(1.0)) * power_of_two

    def from_t(t: Any) -> Any:
        return let(te.floor(t * _f(1.44269504088896341) + _f(0.5)), lambda n: from_n(t, n))

    return let(te.max(te.min(x, _f(88.3762626647949)), _f(-87.3365478515625)), from_t)


def log(x: Any) -> Any:
    """Natural logarithm of a positive normal number to 1e-7 relative; other arguments give nonsense, but no trap.

    Cephes ``logf``: mantissa in [sqrt(1/2), sqrt(2)), a polynomial in ``mantissa - 1``, plus exponent times ln 2.
    """
    coefficients = [
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    ]  # fmt: skip
    root_half_bits = 0x3F3504F3

    def from_x(t: Any) -> Any:
        shifted = tirx.reinterpret("int32", t) - root_half_bits
        exponent = (shifted >> 23).astype("float32")
        mantissa = tirx.reinterpret("float32", (shifted & 0x007FFFFF) + root_half_bits)
        return let(exponent, lambda e: let(mantissa - _f(1.0), lambda m: combine(e, m)))

    def combine(e: Any, m: Any) -> Any:
        p = horner(m, coefficients) * (m * (m * m))
        return m + (p + e * _f(-2.12194440e-4) - _f(0.5) * (m * m)) + e * _f(0.693359375)

    return let(x, from_x)


def power(x: Any, exponent: float) -> Any:
    """``x ** exponent`` of a positive ``x``: by roots and products where the exponent is a multiple of 1/4 up to 2.

    Otherwise through :func:`exp` and :func:`log`, to a relative error of about ``1e-7 * max(1, |exponent * log x|)``.
    """
    quarters = exponent * 4
    if quarters == -3:
        return _inverse_three_quarters(x)
    if quarters != int(quarters) or abs(quarters) > 8 or quarters == 0:
        return exp(log(x) * _f(exponent))

    def from_x(t: Any) -> Any:
        whole, rest = divmod(abs(int(quarters)), 4)
        root = te.sqrt(t)
        factors = [t] * whole + {0: [], 1: [te.sqrt(root)], 2: [root], 3: [root, te.sqrt(root)]}[rest]
        product = math.prod(factors[1:], start=factors[0])
        return product if quarters > 0 else _f(1.0) / product

    return let(x, from_x)


def _inverse_three_quarters(x: Any) -> Any:
    """``x ** -0.75`` of a positive normal number to 3e-7 relative, without the unit that divides and takes roots.

    That unit needs 28 cycles for two roots and a division of 16 lanes (Zen 4), this 12 products or sums. The bits of a
    float are about its logarithm, so -3/4 of them are a guess ``y``, 4.5 % off at most (the trick of the fast inverse
    square root; the constant centres its error). ``x**3 * y**4`` is then within 0.839 and 1.192, and -1/4 of its power
    a polynomial, minimax for the relative error: 6.3e-8.
    """

    def from_x(t: Any) -> Any:
        bits = tirx.reinterpret("int32", t)
        guess = tirx.reinterpret("float32", tirx.const(0x6F152000, "int32") - (bits >> 1) - (bits >> 2))
        return let(guess, lambda y: let(t * y, lambda ty: corrected(y, ty)))

    def corrected(y: Any, ty: Any) -> Any:
        coefficients = [-0.0780117412, 0.488371109, -1.29069137, 1.87818063, -1.69771202, 1.69986345]
        return let((ty * ty) * (ty * y), lambda z: horner(z, coefficients)) * y

    return let(x, from_x)


def erf(x: Any) -> Any:
    """Error function to 7e-7 absolute (Abramowitz and Stegun, 7.1.26)."""
    zero, one = _f(0.0), _f(1.0)

    def magnitude(t: Any, k: Any) -> Any:
        p = horner(k, [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592])
        return one - p * k * exp(zero - t * t)

    def from_x(t: Any) -> Any:
        k = one / (one + _f(0.3275911) * te.max(t, zero - t))
        absolute = let(k, lambda k_: magnitude(t, k_))
        return let(absolute, lambda m: tirx.Select(t < zero, zero - m, m))

    return let(x, from_x)
