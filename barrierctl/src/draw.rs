//! Lines of text with tones, bars and histories.
//!
//! Owns glyphs, colours, cutting to a width, and numbers for people. Every glyph is one column wide.
//! Knows nothing of barriers and of the terminal.

use std::fmt::Write as _;

/// What a piece of text is like: a colour, where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Warn,
    Bad,
}

impl Tone {
    /// The escape sequence that begins it; [`RESET`] ends it.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

/// Ends every tone.
pub(crate) const RESET: &str = "\x1b[0m";

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(Vec<(Tone, String)>);

impl Line {
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self(vec![(Tone::Plain, text.into())])
    }

    pub(crate) fn add(&mut self, tone: Tone, text: impl Into<String>) {
        self.0.push((tone, text.into()));
    }

    /// The columns it takes.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Its text, cut to `columns`, without blanks at the end, with or without colours.
    pub(crate) fn painted(&self, columns: usize, color: bool) -> String {
        let mut out = String::new();
        let mut left = self.kept().min(columns);
        for (tone, text) in &self.0 {
            let piece: String = text.chars().take(left).collect();
            left -= piece.chars().count();
            if piece.is_empty() {
                continue;
            }
            let code = tone.code();
            if color && !code.is_empty() && !piece.trim().is_empty() {
                out += code;
                out += &piece;
                out += RESET;
            } else {
                out += &piece;
            }
        }
        out
    }

    /// The columns up to the last that is no blank.
    fn kept(&self) -> usize {
        let text: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        text.trim_end().chars().count()
    }
}

/// What to draw with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Glyphs {
    /// Of a history: from nothing to all.
    levels: [char; 9],
    /// The end of a bar, by eighths: from nothing to all.
    eighths: [char; 9],
}

/// Blocks.
pub(crate) const BLOCKS: Glyphs = Glyphs {
    levels: [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
    eighths: [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'],
};

/// Where only ASCII can be shown.
pub(crate) const ASCII: Glyphs = Glyphs {
    levels: [' ', '.', ':', '-', '=', '+', '*', '#', '@'],
    eighths: [' ', ' ', ' ', ' ', '#', '#', '#', '#', '#'],
};

impl Glyphs {
    /// `part` of `width` columns, padded to them.
    pub(crate) fn bar(&self, part: f64, width: usize) -> String {
        let eighths = steps(part, width * 8);
        let mut bar: String = std::iter::repeat_n(self.eighths[8], eighths / 8).collect();
        if eighths % 8 != 0 {
            bar.push(self.eighths[eighths % 8]);
        }
        format!("{bar:<width$}")
    }

    /// One column as high as `part`; not empty, however small the part.
    pub(crate) fn level(&self, part: f64) -> char {
        self.levels[steps(part, 8).max(1)]
    }

    /// The newest of `parts` in `width` columns, at their right end; `None`s are gaps.
    pub(crate) fn history(
        &self,
        parts: impl DoubleEndedIterator<Item = Option<f64>>,
        width: usize,
    ) -> String {
        let mut newest: Vec<char> =
            parts.rev().take(width).map(|part| part.map_or(' ', |part| self.level(part))).collect();
        newest.reverse();
        format!("{:>width$}", String::from_iter(newest))
    }
}

/// `part` of `n`, rounded; all for more than all, none for less than none and for what is no number.
fn steps(part: f64, n: usize) -> usize {
    let mut steps = 0;
    // No cast of a float is without a corner; there are few steps.
    let mut at = 0.5;
    #[expect(clippy::cast_precision_loss, reason = "columns")]
    let all = part * n as f64;
    while steps < n && at <= all {
        steps += 1;
        at += 1.0;
    }
    steps
}

/// How far `value` is on the way from `low` to `high` on a logarithmic scale, 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "a drawing")]
pub(crate) fn log_part(value: u64, low: u64, high: u64) -> f64 {
    if value <= low {
        return 0.0;
    }
    ((value as f64 / low as f64).ln() / (high as f64 / low as f64).ln()).min(1.0)
}

/// Nanoseconds in three digits or so and a unit, 8 columns at most.
pub(crate) fn short(ns: u64) -> String {
    let (unit, name) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, rest) = (ns / unit, ns % unit * 1_000 / unit);
    let mut text = whole.to_string();
    // Cut, not rounded, so that no unit ever shows 1000 of itself.
    if whole < 10 {
        let _ = write!(text, ".{:02}", rest / 10);
    } else if whole < 100 {
        let _ = write!(text, ".{}", rest / 100);
    }
    format!("{text} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_part() {
        for (part, blocks, ascii) in [
            (0.0, "    ", "    "),
            (-1.0, "    ", "    "),
            (f64::NAN, "    ", "    "),
            (0.25, "█   ", "#   "),
            (0.5, "██  ", "##  "),
            (0.53, "██▏ ", "##  "),
            (0.66, "██▋ ", "### "),
            (1.0, "████", "####"),
            (9.0, "████", "####"),
        ] {
            assert_eq!((BLOCKS.bar(part, 4), ASCII.bar(part, 4)), (blocks.into(), ascii.into()));
        }
        assert_eq!(BLOCKS.bar(1.0, 0), "");
    }

    #[test]
    fn histories_end_at_the_right() {
        let parts = [Some(0.0), None, Some(0.5), Some(1.0)];
        assert_eq!(BLOCKS.history(parts.into_iter(), 6), "  ▁ ▄█");
        assert_eq!(BLOCKS.history(parts.into_iter(), 2), "▄█");
        assert_eq!(ASCII.history(parts.into_iter(), 4), ". =@");
    }

    #[test]
    fn logarithms() {
        assert_eq!(log_part(0, 10, 1_000), 0.0);
        assert!((log_part(100, 10, 1_000) - 0.5).abs() < 1e-9);
        assert_eq!(log_part(u64::MAX, 10, 1_000), 1.0);
    }

    #[test]
    fn lines_are_cut_and_coloured() {
        let mut line = Line::plain("ab ");
        line.add(Tone::Bad, "cd");
        line.add(Tone::Good, "  ");
        assert_eq!((line.width(), line.painted(80, false).as_str()), (7, "ab cd"));
        assert_eq!(line.painted(80, true), "ab \x1b[31mcd\x1b[0m");
        assert_eq!(line.painted(4, true), "ab \x1b[31mc\x1b[0m");
        assert_eq!(line.painted(3, true), "ab ");
    }

    #[test]
    fn times_in_three_digits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (12_345, "12.3 us"),
            (999_999, "999 us"),
            (2_113_000, "2.11 ms"),
            (104_900_000, "104 ms"),
            (1_050_000_000, "1.05 s"),
            (123_000_000_000, "123 s"),
        ] {
            assert_eq!(short(ns), text);
        }
    }
}
