"""What the kernels of the mask losses have in common: focal and dice terms of one logit, and interpolation."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def blend(first, second, share):
    """Between two values, `share` of the way from the first to the second."""
    return first + (second - first) * share


@triton.jit
def answer(logit, inside, counted, NOWHERE: tl.constexpr):
    """The probabilities of the wrong and of the right answer, and -log of the latter, accurate at both ends.

    `inside` is 1 in the target and 0 elsewhere. Where a logit does not count, nothing is wrong.
    """
    wrong_logit = tl.where(counted, logit - 2 * inside * logit, NOWHERE)
    small = tl.exp(-tl.abs(wrong_logit))  # in 0 .. 1
    larger = 1 / (1 + small)
    smaller = small * larger
    is_wrong = wrong_logit >= 0
    # log(1 + small) / small by a fit, since Triton's logarithm is slow, and adding 1 would round most of `small` away
    fit = 0.0434938998 + small * -0.00837115255
    fit = 0.176874767 + small * (-0.106850029 + small * fit)
    fit = 0.332719284 + small * (-0.244747742 + small * fit)
    fit = 0.999999781 + small * (-0.499971745 + small * fit)
    surprise = tl.maximum(wrong_logit, 0.0) + small * fit
    return tl.where(is_wrong, larger, smaller), tl.where(is_wrong, smaller, larger), surprise


@triton.jit
def derivative(inside, wrong, right, surprise, by_focal, by_predicted, by_overlap, ALPHA: tl.constexpr):
    """Of a loss by one logit, given its derivatives by the sums of focal loss, probability and overlap."""
    # the focal loss falls with a logit inside the target; both probabilities rise with every logit
    of_focal = by_focal * (1 - ALPHA - inside) * wrong * (2 * right * surprise + wrong)
    return wrong * (of_focal + right * (by_predicted + by_overlap * inside))
