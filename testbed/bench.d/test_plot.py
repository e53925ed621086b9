"""The picture of the benchmarks shows what their tables say."""

import unittest
from pathlib import Path

from plot import draw, place, rows

DOCS = Path(__file__).resolve().parents[2] / "docs"


class Plot(unittest.TestCase):
    def test_the_picture_is_that_of_the_tables(self):
        markdown = (DOCS / "benchmarks.md").read_text()
        self.assertEqual((DOCS / "benchmarks.svg").read_text(), draw(markdown))

    def test_every_figure_of_a_step_with_an_image_is_drawn(self):
        markdown = (DOCS / "benchmarks.md").read_text()
        self.assertEqual(len(rows(markdown)), 12)
        self.assertEqual(draw(markdown).count('r="4.5"'), 12)

    def test_more_is_further_to_the_right_on_both_sides_of_zero(self):
        places = [place(ms) for ms in (-50, -1, 0, 0.1, 1, 10, 1000)]
        self.assertEqual(places, sorted(places))
        self.assertAlmostEqual(place(5) - place(0), place(0) - place(-5))


if __name__ == "__main__":
    unittest.main()
