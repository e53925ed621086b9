"""What a handful of interleaved samples says, and how sure of it one can be."""

from dataclasses import dataclass
from math import ceil, comb
from statistics import median


def percentile(samples, percent):
    """The sample at or above that share of all: always one that occurred."""
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("no samples")
    return ordered[max(ceil(len(ordered) * percent / 100), 1) - 1]


def interval(samples, confidence=0.95):
    """A confidence interval of the median, from order statistics: nothing is assumed of the
    distribution. Below six samples the extremes are all one can say."""
    ordered = sorted(samples)
    n = len(ordered)
    if n == 0:
        raise ValueError("no samples")
    outside = 0
    low = 0
    # The median lies outside [low, n-1-low] with probability 2 * P(at most `low` heads in n).
    while low < (n - 1) // 2:
        outside += 2 * comb(n, low) / 2**n
        if outside > 1 - confidence:
            break
        low += 1
    low = max(low - 1, 0)
    return ordered[low], ordered[n - 1 - low]


@dataclass(frozen=True)
class Estimate:
    """A median with its interval and its extremes, all in one unit."""

    middle: float
    low: float
    high: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, samples):
        samples = list(samples)
        low, high = interval(samples)
        return cls(median(samples), low, high, min(samples), max(samples), len(samples))

    def verdict(self, budget):
        """Against an upper limit: only what the whole interval says is said."""
        if self.high <= budget:
            return "met"
        if self.low > budget:
            return "missed"
        return "open (noise)"


def differences(before, subject, after):
    """Subject less its baseline, round by round. The baseline ran right before and right after,
    so that a drift of the machine cancels."""
    if not len(before) == len(subject) == len(after):
        raise ValueError("rounds are incomplete")
    return [s - (b + a) / 2 for b, s, a in zip(before, subject, after)]


def ratios(baseline, subject):
    """Subject over baseline, round by round."""
    if len(baseline) != len(subject):
        raise ValueError("rounds are incomplete")
    return [s / b for b, s in zip(baseline, subject)]
