//! Medians, quartiles, percentiles. Knows nothing of what was measured.

use serde::{Deserialize, Serialize};

/// A median and its quartiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = |quarter: usize| sorted[last * quarter / 4];
        Some(Spread { low: at(1), median: at(2), high: at(3) })
    }

    /// "12.3 (11.9 to 13.0)"
    pub(crate) fn shown(&self) -> String {
        format!("{} ({} to {})", number(self.median), number(self.low), number(self.high))
    }
}

/// The value that so many thousandths are no greater than; of nothing 0.
pub(crate) fn per_mille(sorted: &[f64], part: usize) -> f64 {
    sorted.len().checked_sub(1).map_or(0.0, |last| sorted[last * part / 1000])
}

pub(crate) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Three digits that count, and thousands set apart.
pub(crate) fn number(value: f64) -> String {
    // What was divided by nothing.
    if !value.is_finite() {
        return "n/a".into();
    }
    let size = value.abs();
    if size >= 1e7 {
        return format!("{} M", number(value / 1e6));
    }
    if size >= 100.0 {
        let digits = format!("{size:.0}");
        let mut shown = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                shown.push(',');
            }
            shown.push(digit);
        }
        return if value < 0.0 { format!("-{shown}") } else { shown };
    }
    let places = if size >= 10.0 { 1 } else { 2 };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_of_eleven() {
        let spread = Spread::of((0..11).rev().map(f64::from)).expect("eleven");
        assert_eq!(spread, Spread { low: 2.0, median: 5.0, high: 7.0 });
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn numbers_have_three_digits_and_commas() {
        let shown = [0.5, -3.0, 12.34, 99.96, 123.4, 4096.0, 1_234_567.0, 27.5e6].map(number);
        assert_eq!(
            shown,
            ["0.50", "-3.00", "12.3", "100.0", "123", "4,096", "1,234,567", "27.5 M"]
        );
    }

    #[test]
    fn what_is_no_number_is_none() {
        assert_eq!([f64::INFINITY, f64::NAN, f64::NEG_INFINITY].map(number), ["n/a"; 3]);
    }

    #[test]
    fn percentiles() {
        let values = sorted((0..1001).map(f64::from));
        assert_eq!(
            [0, 500, 990, 1000].map(|part| per_mille(&values, part)),
            [0.0, 500.0, 990.0, 1000.0]
        );
        assert_eq!(per_mille(&[], 500), 0.0);
    }
}
