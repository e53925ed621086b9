"""Markdown that is also readable as it is."""


def table(header, rows):
    """A markdown table; every column but the first is aligned to the right."""
    cells = [header, *rows]
    widths = [max(len(str(row[i])) for row in cells) for i in range(len(header))]

    def line(row):
        first = str(row[0]).ljust(widths[0])
        rest = [str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:])]
        return "| " + " | ".join([first, *rest]) + " |\n"

    rule = ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]
    return line(header) + line(rule) + "".join(line(row) for row in rows)


def signed(estimate, digits=1):
    """+1.9 [+1.2, +2.6]: median and its 95 % interval."""
    return f"{estimate.middle:+.{digits}f} [{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"


def plain(estimate, digits=1):
    return f"{estimate.middle:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def extremes(estimate, digits=1):
    return f"{estimate.least:.{digits}f}..{estimate.most:.{digits}f}"
