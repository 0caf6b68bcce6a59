"""A confidence sequence of the difference of two proportions: it may be looked at after every observation. Pure.

The sequence is Robbins' method of mixtures for Bernoulli trials. Let L(p, q) be the likelihood of the counts of two
sides with rates p and q, and W the average of L over a prior that was fixed beforehand. W / L(p, q) is a nonnegative
martingale of mean 1 under the true rates, so by Ville's inequality it ever reaches 1 / alpha with a probability of at
most alpha. The pairs of rates with L > alpha W therefore hold the true pair at all times at once with a probability of
at least 1 - alpha, and so do the differences of these pairs. The bounds are exact for every size and every rate, and
they depend on the counts alone: nothing has to be remembered between two looks.

Conditions: whether an observation belongs to one side or the other is settled before it is made, and its probability of
an event is the same throughout, whatever came before. If the rates drift, and observations stay independent, the bound
holds at each single look for the mean rates (Hoeffding 1956: such sums spread less than binomial ones). It does not
hold where events come in clusters of their own on one side.

Sources:
    Robbins 1970, Statistical methods related to the law of the iterated logarithm, Ann. Math. Statist. 41: 1397-1409.
    Howard, Ramdas, McAuliffe and Sekhon 2021, Time-uniform, nonparametric, nonasymptotic confidence sequences,
    Ann. Statist. 49: 1055-1080.
    Lindon and Malek 2022, Anytime-valid inference for multinomial count data, NeurIPS 35: mixtures for canary tests.
    Turner and Gruenwald 2023, Exact anytime-valid confidence intervals for contingency tables and beyond,
    Statist. Probab. Lett. 198: 109835, for the projection to the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, lgamma, log

_NO_EVENTS, _EQUAL, _OTHER = 0.25, 0.5, 0.25
"""The prior: no events ever, one rate for both, a rate for each. Rates have Jeffreys' prior, Beta(1/2, 1/2)."""

_MAX_STEPS = 60
_PRECISION = 1e-10
_TOLERANCE = 1e-5  # of bounds, which are for the eye
_MAX_TRIALS = 1e9


@dataclass(frozen=True, slots=True)
class Comparison:
    """Events of two sides, and the trials among which they were.

    Attributes:
        events: of the first side.
        trials: likewise.
        other_events: of the second side.
        other_trials: likewise.
    """

    events: float
    trials: float
    other_events: float
    other_trials: float

    def is_below(self, difference: float, level: float) -> bool:
        """Return whether the first rate minus the second is shown to be smaller than ``difference``.

        Args:
            difference: between -1 and 1.
            level: the probability of a wrong answer to this or :meth:`is_above`, over any number of looks.
        """
        return self._estimate < difference and self._is_excluded(difference, level)

    def is_above(self, difference: float, level: float) -> bool:
        """Return whether the first rate minus the second is shown to be larger than ``difference``."""
        return self._estimate > difference and self._is_excluded(difference, level)

    def upper(self, level: float) -> float:
        """Return the upper bound of the first rate minus the second."""
        return self._bound(1.0, level)

    def lower(self, level: float) -> float:
        """Return the lower bound of the first rate minus the second."""
        return self._bound(-1.0, level)

    def count_needed_trials(self, difference: float, level: float) -> float | None:
        """Return how many trials of the first side would show two equal rates to differ by less than ``difference``.

        Both sides are taken to have the rate that they have together, and trials in the proportion that they have.
        About half of all canaries with equal rates are decided earlier. None where no number would do.
        """
        if not self.trials:
            return None
        rate = (self.events + self.other_events) / (self.trials + self.other_trials)
        share = self.other_trials / self.trials

        def suffice(trials: float) -> bool:
            expected = Comparison(rate * trials, trials, rate * share * trials, share * trials)
            return expected.is_below(difference, level)

        enough = 1.0
        while not suffice(enough):
            enough *= 2
            if enough > _MAX_TRIALS:
                return None
        few = enough / 2
        while enough - few > 0.01 * enough:
            middle = (few + enough) / 2
            few, enough = (few, middle) if suffice(middle) else (middle, enough)
        return enough

    @property
    def _estimate(self) -> float:
        rate = self.events / self.trials if self.trials else 0.0
        other = self.other_events / self.other_trials if self.other_trials else 0.0
        return rate - other

    def _is_excluded(self, difference: float, level: float) -> bool:
        return self._log_likelihood(difference) <= log(level) + self._log_mixture()

    def _bound(self, end: float, level: float) -> float:
        floor = log(level) + self._log_mixture()
        held, excluded = self._estimate, end
        if self._log_likelihood(excluded) > floor:
            return excluded
        while abs(excluded - held) > _TOLERANCE:
            middle = (held + excluded) / 2
            held, excluded = (middle, excluded) if self._log_likelihood(middle) > floor else (held, middle)
        return excluded

    def _log_likelihood(self, difference: float) -> float:
        """The largest log likelihood of two rates with this difference."""
        other = self._likeliest(difference)
        likelihood = _log_binomial(self.events, self.trials, min(1.0, max(0.0, other + difference)))
        return likelihood + _log_binomial(self.other_events, self.other_trials, other)

    def _likeliest(self, difference: float) -> float:
        """The second rate of the likeliest pair with this difference: the likelihood is concave, so Newton finds it."""
        low, high = max(0.0, -difference), min(1.0, 1.0 - difference)
        if low >= high or self._slope(low, difference)[0] <= 0.0:
            return low
        if self._slope(high, difference)[0] >= 0.0:
            return high
        other = (low + high) / 2
        for _ in range(_MAX_STEPS):
            slope, curvature = self._slope(other, difference)
            low, high = (other, high) if slope > 0.0 else (low, other)
            step = other + slope / curvature
            step = step if low < step < high else (low + high) / 2
            if abs(step - other) <= _PRECISION * other:
                break
            other = step
        return other

    def _slope(self, other: float, difference: float) -> tuple[float, float]:
        """The slope of the log likelihood where the second rate is ``other``, and how fast it falls."""
        rate = other + difference
        failures, other_failures = self.trials - self.events, self.other_trials - self.other_events
        slope = curvature = 0.0
        for count, share, sign in (
            (self.events, rate, 1.0),
            (failures, 1.0 - rate, -1.0),
            (self.other_events, other, 1.0),
            (other_failures, 1.0 - other, -1.0),
        ):
            if not count:
                continue
            if share <= 0.0:
                return sign * inf, inf
            slope += sign * count / share
            curvature += count / (share * share)
        return slope, curvature

    def _log_mixture(self) -> float:
        events, trials = self.events + self.other_events, self.trials + self.other_trials
        parts = [log(_EQUAL) + _log_marginal(events, trials)]
        apart = _log_marginal(self.events, self.trials) + _log_marginal(self.other_events, self.other_trials)
        parts.append(log(_OTHER) + apart)
        if not events:
            parts.append(log(_NO_EVENTS))
        largest = max(parts)
        return largest + log(sum(exp(part - largest) for part in parts))


def _log_binomial(events: float, trials: float, rate: float) -> float:
    """Without the binomial coefficient, which W has too."""
    failures = trials - events
    if (events and rate <= 0.0) or (failures and rate >= 1.0):
        return -inf
    return (events * log(rate) if events else 0.0) + (failures * log(1.0 - rate) if failures else 0.0)


def _log_marginal(events: float, trials: float) -> float:
    """The log likelihood averaged over Jeffreys' prior."""
    beta = lgamma(events + 0.5) + lgamma(trials - events + 0.5) - lgamma(trials + 1.0)
    return beta - 2 * lgamma(0.5)
