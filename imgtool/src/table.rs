//! What people read on a terminal: not wider than it, and with nothing left out.
//! Elsewhere (files, pipes) a line stays a line.

use std::io::{IsTerminal, Write};

/// Columns of the terminal that the output goes to; nothing if it goes elsewhere.
pub(crate) fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col.into());
    // A terminal that does not know its size mostly has that of all terminals.
    Some(if columns == 0 { 80 } else { columns })
}

/// Aligned columns. Where they do not fit, names (the first column) that are too long stand on
/// a line of their own, above the rest of their row.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]], width: Option<usize>) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let rest: usize = widths.iter().skip(1).map(|width| width + 2).sum();
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(rest).max(2));
    let names = rows.iter().map(|row| row[0].chars().count());
    widths[0] = names.filter(|&length| length <= room).max().unwrap_or(0);
    let mut text = Vec::new();
    for row in rows {
        let mut line = Vec::new();
        let _ = write!(line, "{:<1$}", row[0], widths[0]);
        if row[0].chars().count() > room {
            line.push(b'\n');
            line.resize(line.len() + widths[0], b' ');
        }
        for (cell, width) in row.iter().zip(widths).skip(1) {
            let _ = write!(line, "  {cell:<width$}");
        }
        text.extend(line.trim_ascii_end());
        text.push(b'\n');
    }
    text.pop();
    String::from_utf8_lossy(&text).into_owned()
}

/// `label` and `value`; where they do not fit, the value goes on below, as often as it must.
pub(crate) fn labelled(label: &str, value: &str, width: Option<usize>) -> String {
    let line = format!("{label}{value}");
    let width = match width {
        Some(width) if line.chars().count() > width => width,
        _ => return line.trim_end().to_owned(),
    };
    let mut lines = Vec::new();
    if !label.trim().is_empty() {
        lines.push(label.trim_end().to_owned());
    }
    let characters: Vec<char> = value.chars().collect();
    let first = lines.is_empty();
    for (number, piece) in characters.chunks(width.saturating_sub(4).max(1)).enumerate() {
        let indent = if number == 0 && first { "  " } else { "    " };
        lines.push(format!("{indent}{}", piece.iter().collect::<String>()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> Vec<[String; 3]> {
        [
            ["IMAGE", "SIZE", "BY"],
            ["ubuntu:14.04", "55.80 MB", "alice"],
            ["registry.example.org/group/application:1", "1 B", "bob"],
        ]
        .map(|row| row.map(str::to_owned))
        .to_vec()
    }

    #[test]
    fn what_fits_is_a_line_per_image() {
        for width in [None, Some(57)] {
            assert_eq!(
                aligned(&rows(), width),
                "IMAGE                                     SIZE      BY\n\
                 ubuntu:14.04                              55.80 MB  alice\n\
                 registry.example.org/group/application:1  1 B       bob"
            );
        }
    }

    #[test]
    fn a_name_too_long_for_the_terminal_has_a_line_of_its_own() {
        assert_eq!(
            aligned(&rows(), Some(40)),
            "IMAGE         SIZE      BY\n\
             ubuntu:14.04  55.80 MB  alice\n\
             registry.example.org/group/application:1\n              \
             1 B       bob"
        );
    }

    #[test]
    fn a_value_too_long_for_the_terminal_goes_on_below() {
        assert_eq!(labelled("file: ", "/a/b", Some(10)), "file: /a/b");
        assert_eq!(labelled("file: ", "/a/b/c", Some(10)), "file:\n    /a/b/c");
        assert_eq!(labelled("file: ", "/a/b/c/d", Some(10)), "file:\n    /a/b/c\n    /d");
        assert_eq!(labelled("  ", "A=12345678", Some(10)), "  A=1234\n    5678");
        assert_eq!(labelled("user:        ", "", None), "user:");
    }

    proptest! {
        #[test]
        fn nothing_is_left_out_and_nothing_is_too_wide(value in "[!-~]{0,300}", width in 5usize..120) {
            let shown = labelled("  ", &value, Some(width));
            prop_assert!(shown.lines().all(|line| line.chars().count() <= width));
            prop_assert_eq!(shown.split_whitespace().collect::<String>(), value);
        }
    }
}
