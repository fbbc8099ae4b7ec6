//! A strict reader of Prometheus' text format 0.0.4, and of its habits in naming.
//!
//! Knows nothing of barrierd. Stricter than the format: each metric has HELP and TYPE, in this order,
//! right before its samples; counters end in `_total`, and nothing else does.

use std::collections::BTreeMap;

/// One sample with its metric's head.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    pub(crate) kind: String,
    #[allow(dead_code, reason = "not every test looks")]
    pub(crate) help: String,
}

/// Samples by name and labels, as written.
pub(crate) type Metrics = BTreeMap<String, Sample>;

/// Reads `text`, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Metrics, String> {
    let mut metrics = Metrics::new();
    let mut heads: Vec<String> = Vec::new();
    // Name and help, then the type, of the metric under way; samples seen of it.
    let (mut head, mut kind, mut samples) = (None::<(String, String)>, None::<String>, 1);
    if !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    for line in text.lines() {
        let wrong = |why: &str| Err(format!("{why}: {line:?}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else { return wrong("no help") };
            if samples == 0 {
                return wrong("a head without samples before");
            }
            if !is_name(name) || heads.iter().any(|head| head == name) {
                return wrong("no name, or twice");
            }
            if help.trim().is_empty() || help.contains('\\') {
                return wrong("empty help, or an escape");
            }
            heads.push(name.into());
            (head, kind, samples) = (Some((name.into(), help.into())), None, 0);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, found)) = rest.split_once(' ') else { return wrong("no type") };
            if kind.is_some() || head.as_ref().is_none_or(|(head, _)| head != name) {
                return wrong("a type without its help");
            }
            if !["counter", "gauge"].contains(&found) {
                return wrong("no type that is used here");
            }
            if (found == "counter") != name.ends_with("_total") {
                return wrong("counters, and they only, end in _total");
            }
            kind = Some(found.into());
        } else {
            let Some((series, value)) = line.rsplit_once(' ') else { return wrong("no sample") };
            let (Some((name, help)), Some(kind)) = (&head, &kind) else {
                return wrong("a sample without its head");
            };
            let labels = series.strip_prefix(name.as_str()).filter(|labels| are_labels(labels));
            if labels.is_none() {
                return wrong("another metric's sample, or no labels");
            }
            let Ok(value) = value.parse::<f64>() else { return wrong("no number") };
            if !value.is_finite() || (kind == "counter" && value < 0.0) {
                return wrong("no number for this type");
            }
            samples += 1;
            let sample = Sample { value, kind: kind.clone(), help: help.clone() };
            if metrics.insert(series.into(), sample).is_some() {
                return wrong("twice");
            }
        }
    }
    if samples == 0 { Err("a head without samples at the end".into()) } else { Ok(metrics) }
}

fn is_name(text: &str) -> bool {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    text.bytes().next().is_some_and(first)
        && text.bytes().all(|b| first(b) || b.is_ascii_digit() || b == b':')
}

/// Nothing, or `{name="value",...}` with values that need no escape.
fn are_labels(text: &str) -> bool {
    let one = |label: &str| {
        label.split_once('=').is_some_and(|(name, value)| {
            let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            is_name(name) && inner.is_some_and(|inner| !inner.contains(['"', '\\', '\n']))
        })
    };
    text.is_empty()
        || text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .is_some_and(|text| text.split(',').all(one))
}

#[test]
fn the_reader_is_strict() {
    let good = "# HELP a_total Sums.\n# TYPE a_total counter\na_total{b=\"c\"} 1\na_total 2.5\n";
    assert_eq!(parse(good).expect("right").len(), 2);
    for (from, to) in [
        ("# HELP a_total Sums.\n", ""),
        ("# TYPE a_total counter\n", ""),
        ("counter", "gauge"),
        ("counter", "number"),
        ("a_total 2.5", "b_total 2.5"),
        ("2.5\n", "2.5"),
        ("2.5", "two"),
        ("2.5", "-1"),
        ("2.5", "2.5\na_total 2.5"),
        ("{b=\"c\"}", "{b=c}"),
        ("{b=\"c\"}", "{b=\"c}"),
        ("{b=\"c\"}", "{1=\"c\"}"),
        ("Sums.", ""),
        ("a_total 2.5", "a_total 2.5\n# HELP b More.\n# TYPE b gauge"),
        ("# HELP a_total", "# HELP 9a"),
    ] {
        assert!(good.contains(from), "{from}");
        let bad = good.replace(from, to);
        parse(&bad).expect_err(&bad);
    }
}
