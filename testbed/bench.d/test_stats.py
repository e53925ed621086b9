"""python3 -m unittest discover -s testbed/bench.d"""

import random
import unittest
from statistics import median

from stats import Estimate, differences, interval, percentile, ratios
from table import table


class Stats(unittest.TestCase):
    def test_a_percentile_is_a_sample_that_occurred(self):
        self.assertEqual(percentile([3, 1, 2], 50), 2)
        self.assertEqual(percentile(range(1, 101), 90), 90)
        self.assertEqual(percentile([7], 90), 7)
        with self.assertRaises(ValueError):
            percentile([], 50)

    def test_few_samples_say_only_their_extremes(self):
        self.assertEqual(interval([5, 1, 3]), (1, 5))
        self.assertEqual(interval([4]), (4, 4))

    def test_the_interval_is_the_textbook_one(self):
        # Tables of the sign test: n=6 gives ranks 1..6, n=10 gives 2..9, n=20 gives 6..15.
        self.assertEqual(interval(range(1, 7)), (1, 6))
        self.assertEqual(interval(range(1, 11)), (2, 9))
        self.assertEqual(interval(range(1, 21)), (6, 15))

    def test_the_interval_holds_the_true_median_as_often_as_it_says(self):
        dice = random.Random(1)
        hits = 0
        for _ in range(2000):
            low, high = interval([dice.expovariate(1) for _ in range(15)])
            hits += low <= 0.693147 <= high
        self.assertGreaterEqual(hits, 0.94 * 2000)

    def test_drift_of_the_machine_cancels(self):
        # Each run is slower than the one before; the subject costs 5 more.
        before, subject, after = [0, 30, 60], [10 + 5, 40 + 5, 70 + 5], [20, 50, 80]
        self.assertEqual(differences(before, subject, after), [5, 5, 5])

    def test_incomplete_rounds_are_an_error(self):
        with self.assertRaises(ValueError):
            differences([1, 2], [1], [1, 2])
        with self.assertRaises(ValueError):
            ratios([1, 2], [1])

    def test_a_verdict_needs_the_whole_interval(self):
        estimate = Estimate.of([1, 2, 3, 4, 5])
        self.assertEqual(estimate.middle, median([1, 2, 3, 4, 5]))
        self.assertEqual(estimate.verdict(5), "met")
        self.assertEqual(estimate.verdict(0.5), "missed")
        self.assertEqual(estimate.verdict(3), "open (noise)")

    def test_ratios_are_by_round(self):
        self.assertEqual(ratios([2, 4], [3, 4]), [1.5, 1])

    def test_tables_line_up(self):
        self.assertEqual(
            table(["what", "ms"], [["a", "1.0"], ["longer", "10.0"]]),
            "| what   |   ms |\n| ------ | ---: |\n| a      |  1.0 |\n| longer | 10.0 |\n",
        )


if __name__ == "__main__":
    unittest.main()
