//! Pictures, as SVG by hand: horizontal bars, and lines over a number.
//!
//! No background, middle tones and a media query, so that they can be read on light and on dark.

use crate::contest::Better;
use crate::schemes::{AGAIN, BY_BIRTHS, NOTHING_FREED, OURS, PEER};
use crate::stats::{Spread, number};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

const STYLE: &str = "<style>\
    text{font:12px system-ui,sans-serif;fill:#6a737d}.head{font-weight:600}.small{font-size:11px}\
    .rule{stroke:#8a94a0;stroke-opacity:.45;stroke-width:1}.ours{fill:#2f81d8}.peer{fill:#8f98a3}\
    .bound{fill:none;stroke:#8f98a3;stroke-dasharray:3 2}.spread{stroke:#e08a1e;stroke-width:1.5}\
    .mark{stroke:#e08a1e;stroke-width:1.5;stroke-dasharray:4 3}\
    @media(prefers-color-scheme:dark){text{fill:#adb6c1}}</style>";

/// Tones that differ on white and on black, and for most who see fewer colours.
const TONES: [&str; 10] = [
    "#2f81d8", "#e08a1e", "#2aa198", "#c0587e", "#8a6fd1", "#7a9a2e", "#8f98a3", "#b5651d",
    "#4bb3e6", "#d0513c",
];

/// Each scheme's tone, the same in all pictures.
const SCHEMES: [(&str, &str); 12] = [
    (OURS, TONES[0]),
    (AGAIN, TONES[0]),
    (PEER, TONES[1]),
    ("seize", TONES[2]),
    ("haphazard", TONES[3]),
    ("sdd", TONES[4]),
    (BY_BIRTHS, TONES[5]),
    (NOTHING_FREED, TONES[6]),
    ("(no reclamation)", TONES[6]),
    ("liburcu memb", TONES[7]),
    ("liburcu qsbr", TONES[9]),
    ("liburcu bp", TONES[8]),
];
/// What tells the ways of one scheme apart, which have one tone: the first is solid.
const DASHES: [&str; 9] =
    ["", "6 3", "2 2", "10 3 2 3", "1 3", "12 4", "8 2 2 2 2 2", "4 6", "14 2"];

/// Returns the tone and the dashes of each of these series. A name that goes on after a scheme's is a way of it; those that are
/// no schemes have tones by their order.
fn strokes(names: &[&str]) -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<(&'static str, &'static str)> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let known = SCHEMES.iter().find(|(scheme, _)| name.starts_with(scheme));
        let tone = known.map_or(TONES[index % TONES.len()], |(_, tone)| tone);
        let ways = all.iter().filter(|(own, _)| *own == tone).count();
        all.push((tone, DASHES[ways % DASHES.len()]));
    }
    all
}

fn direction(better: Option<Better>, [lower, higher]: [&'static str; 2]) -> &'static str {
    match better {
        None => "",
        Some(Better::Lower) => lower,
        Some(Better::Higher) => higher,
    }
}

const WIDTH: f64 = 760.0;

/// A picture as data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Picture {
    Bars(Bars),
    Lines(Lines),
}

impl Picture {
    pub(crate) fn svg(&self) -> String {
        match self {
            Picture::Bars(bars) => bars.svg(),
            Picture::Lines(lines) => lines.svg(),
        }
    }

    /// Returns it without what has no figure, which could be neither drawn nor kept.
    pub(crate) fn without_holes(mut self) -> Picture {
        match &mut self {
            Picture::Bars(bars) => bars.groups.iter_mut().for_each(|(_, group)| {
                group.retain(|(_, Spread { low, median, high })| {
                    [low, median, high].iter().all(|one| one.is_finite())
                });
            }),
            Picture::Lines(lines) => lines.series.iter_mut().for_each(|(_, points)| {
                points.retain(|(x, y)| x.is_finite() && y.is_finite());
            }),
        }
        self
    }
}

impl From<Bars> for Picture {
    fn from(bars: Bars) -> Picture {
        Picture::Bars(bars)
    }
}

impl From<Lines> for Picture {
    fn from(lines: Lines) -> Picture {
        Picture::Lines(lines)
    }
}

/// Bars in groups, each with its name before and its value behind it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) groups: Vec<(String, Vec<(String, Spread)>)>,
    /// A line to compare with: where, and what it is.
    pub(crate) mark: Option<(f64, String)>,
    /// For values that lie decades apart: bars begin at the decade below the least.
    pub(crate) log: bool,
    /// Which way is better, which the picture then says.
    pub(crate) better: Option<Better>,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn class(name: &str) -> &'static str {
    if name.starts_with("barrierd") {
        "ours"
    } else if name.starts_with('(') {
        "bound"
    } else {
        "peer"
    }
}

fn text(svg: &mut String, x: f64, y: f64, attributes: &str, words: &str) {
    let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\"{attributes}>{}</text>", escaped(words));
}

fn line(svg: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = write!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

/// `better`: which way is better, in words.
fn framed(title: &str, better: &str, height: f64, inside: &str) -> String {
    let mut more = String::new();
    text(&mut more, WIDTH - 8.0, 18.0, " text-anchor=\"end\"", better);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         width=\"{WIDTH:.0}\" role=\"img\"><title>{0}</title>{STYLE}\
         <text class=\"head\" x=\"8\" y=\"18\">{0}</text>{more}{inside}</svg>\n",
        escaped(title)
    )
}

impl Bars {
    pub(crate) fn svg(&self) -> String {
        const LEFT: f64 = 210.0;
        const RIGHT: f64 = WIDTH - 70.0;
        const BAR: f64 = 16.0;
        let spreads = || self.groups.iter().flat_map(|(_, bars)| bars).map(|(_, spread)| spread);
        let marked = self.mark.iter().map(|(at, _)| *at);
        let most =
            spreads().map(|spread| spread.high).chain(marked).fold(f64::MIN_POSITIVE, f64::max);
        let least =
            spreads().map(|spread| spread.low).filter(|low| *low > 0.0).fold(most, f64::min);
        let decade = 10f64.powf((least * 0.99).log10().floor());
        let part = |value: f64| {
            if self.log {
                (value.max(decade) / decade).ln() / (most / decade).ln()
            } else {
                value.max(0.0) / most
            }
        };
        let x = |value: f64| LEFT + part(value) * (RIGHT - LEFT);
        let (mut inside, mut y) = (String::new(), 34.0);
        let top = y;
        for (name, bars) in &self.groups {
            if !name.is_empty() {
                text(&mut inside, 8.0, y + 12.0, " class=\"head\"", name);
                y += BAR + 2.0;
            }
            for (who, spread) in bars {
                text(&mut inside, LEFT - 8.0, y + 12.0, " text-anchor=\"end\"", who);
                let width = (x(spread.median) - LEFT).max(1.0);
                let _ = write!(
                    inside,
                    "<rect class=\"{}\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                    class(who),
                    y + 2.0,
                    BAR - 4.0
                );
                let middle = y + BAR / 2.0;
                line(&mut inside, "spread", [x(spread.low), middle, x(spread.high), middle]);
                let behind = x(spread.high.max(spread.median)) + 6.0;
                text(&mut inside, behind, y + 12.0, " class=\"small\"", &number(spread.median));
                y += BAR;
            }
            y += 10.0;
        }
        if let Some((at, says)) = &self.mark {
            line(&mut inside, "mark", [x(*at), top, x(*at), y]);
            text(&mut inside, x(*at), y + 12.0, " class=\"small\" text-anchor=\"middle\"", says);
            y += 18.0;
        }
        let better = direction(self.better, ["shorter is better", "longer is better"]);
        let scale = if self.log { ", logarithmic" } else { "" };
        framed(&format!("{}{scale}", self.title), better, y + 4.0, &inside)
    }
}

/// Lines over a number; axes may be logarithmic.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lines {
    pub(crate) title: String,
    pub(crate) x_is: String,
    pub(crate) y_is: String,
    pub(crate) x_log: bool,
    pub(crate) y_log: bool,
    pub(crate) series: Vec<(String, Vec<(f64, f64)>)>,
    pub(crate) better: Option<Better>,
}

/// One axis: what a value becomes, and where its marks stand.
struct Axis {
    log: bool,
    low: f64,
    high: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, log: bool) -> Axis {
        let shown = values.filter(|value| !log || *value > 0.0);
        let high = shown.clone().fold(f64::MIN_POSITIVE, f64::max);
        let low = if log { shown.fold(high, f64::min) } else { 0.0 };
        // Whole decades, unless all lies within one.
        if log && high > low * 10.0 {
            return Axis {
                log,
                low: 10f64.powf(low.log10().floor()),
                high: 10f64.powf(high.log10().ceil()),
            };
        }
        Axis { log, low: if log { low * 0.8 } else { 0.0 }, high: high * 1.1 }
    }

    /// 0 at the low end, 1 at the high one.
    fn part(&self, value: f64) -> f64 {
        if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn marks(&self) -> Vec<f64> {
        if self.log && self.high >= self.low * 10.0 {
            let (first, last) = (self.low.log10().ceil(), self.high.log10().floor());
            return std::iter::successors(Some(first), |at| Some(at + 1.0))
                .take_while(|at| *at <= last)
                .map(|at| 10f64.powf(at))
                .collect();
        }
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|step| step * 10f64.powf(((self.high - self.low) / 5.0).log10().floor()))
            .into_iter()
            .find(|step| (self.high - self.low) / step <= 6.0)
            .unwrap_or(self.high);
        std::iter::successors(Some((self.low / step).ceil() * step), |at| Some(at + step))
            .take_while(|at| *at <= self.high)
            .collect()
    }
}

/// A mark's number, short: 10000 as 10 k.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e4 => format!("{} k", v / 1e3),
        v => format!("{}", (v * 1e4).round() / 1e4),
    }
}

impl Lines {
    pub(crate) fn svg(&self) -> String {
        const LEFT: f64 = 70.0;
        const TOP: f64 = 44.0;
        const BOTTOM: f64 = 300.0;
        // What the longest name takes, whose stroke stands before it.
        let longest = self.series.iter().map(|(name, _)| name.chars().count()).max();
        let right = WIDTH - (46.0 + 6.4 * longest.unwrap_or(0) as f64).max(210.0);
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let across = Axis::over(points().map(|point| point.0), self.x_log);
        let up = Axis::over(points().map(|point| point.1), self.y_log);
        let x = |value: f64| LEFT + across.part(value) * (right - LEFT);
        let y = |value: f64| BOTTOM - up.part(value) * (BOTTOM - TOP);
        let mut inside = String::new();
        for mark in up.marks() {
            line(&mut inside, "rule", [LEFT, y(mark), right, y(mark)]);
            let attributes = " class=\"small\" text-anchor=\"end\"";
            text(&mut inside, LEFT - 6.0, y(mark) + 4.0, attributes, &short(mark));
        }
        for mark in across.marks() {
            line(&mut inside, "rule", [x(mark), TOP, x(mark), BOTTOM]);
            let attributes = " class=\"small\" text-anchor=\"middle\"";
            text(&mut inside, x(mark), BOTTOM + 16.0, attributes, &short(mark));
        }
        text(&mut inside, 8.0, TOP - 8.0, " class=\"small\"", &self.y_is);
        let attributes = " class=\"small\" text-anchor=\"end\"";
        text(&mut inside, right, BOTTOM + 32.0, attributes, &self.x_is);
        // Names at the lines' ends, moved apart where they would meet.
        let mut names: Vec<(f64, usize)> = Vec::new();
        let called: Vec<&str> = self.series.iter().map(|(name, _)| name.as_str()).collect();
        let strokes = strokes(&called);
        for (index, (_, points)) in self.series.iter().enumerate() {
            let (tone, dashes) = strokes[index];
            let path: Vec<String> =
                points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
            let _ = write!(
                inside,
                "<polyline fill=\"none\" stroke=\"{tone}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\" points=\"{}\"/>",
                path.join(" ")
            );
            if points.len() <= 16 {
                for point in points {
                    let _ = write!(
                        inside,
                        "<circle fill=\"{tone}\" r=\"2.5\" cx=\"{:.1}\" cy=\"{:.1}\"/>",
                        x(point.0),
                        y(point.1)
                    );
                }
            }
            if let Some(last) = points.last() {
                names.push((y(last.1), index));
            }
        }
        names.sort_by(|one, two| one.0.total_cmp(&two.0));
        let mut free = TOP - 14.0;
        for (at, index) in names {
            let at = at.max(free + 14.0);
            free = at;
            let (tone, dashes) = strokes[index];
            let (from, to) = (right + 10.0, right + 34.0);
            let _ = write!(
                inside,
                "<line stroke=\"{tone}\" stroke-width=\"3\" stroke-dasharray=\"{dashes}\" x1=\"{from:.1}\" y1=\"{at:.1}\" \
                 x2=\"{to:.1}\" y2=\"{at:.1}\"/>"
            );
            text(&mut inside, right + 40.0, at + 4.0, "", &self.series[index].0);
        }
        let better = direction(self.better, ["lower is better", "higher is better"]);
        framed(&self.title, better, (BOTTOM + 42.0).max(free + 14.0), &inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(value: f64) -> Spread {
        Spread { low: value, median: value, high: value }
    }

    #[test]
    fn the_longest_bar_ends_where_the_others_are_measured() {
        let bars = Bars {
            title: "a < b".into(),
            groups: vec![(String::new(), vec![("x".into(), flat(5.0)), ("y".into(), flat(10.0))])],
            ..Bars::default()
        };
        let svg = bars.svg();
        assert!(svg.contains("a &lt; b"));
        assert!(svg.contains("width=\"480.0\"") && svg.contains("width=\"240.0\""), "{svg}");
    }

    #[test]
    fn a_decade_is_as_long_as_the_next_on_a_logarithmic_scale() {
        let bars =
            ["x", "y"].into_iter().zip([10.0, 100.0]).map(|(name, at)| (name.to_owned(), flat(at)));
        let bars =
            Bars { groups: vec![(String::new(), bars.collect())], log: true, ..Bars::default() };
        let svg = bars.svg();
        assert!(svg.contains("width=\"480.0\"") && svg.contains("width=\"240.0\""), "{svg}");
    }

    #[test]
    fn decades_on_a_logarithmic_axis() {
        let axis = Axis::over([3.0, 2_000.0].into_iter(), true);
        assert_eq!(axis.marks().len(), 5);
        assert!((axis.part(100.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn no_two_series_look_alike_and_a_scheme_looks_the_same_everywhere() {
        let names = [
            "barrierd",
            "barrierd, membarrier",
            "barrierd, robust guards",
            PEER,
            "seize",
            "haphazard",
            "sdd",
            BY_BIRTHS,
            "liburcu memb",
            "liburcu qsbr",
            NOTHING_FREED,
            "barrierd, epoch drop-in, by a handle",
            "(barrierd again)",
            "crossbeam-epoch, by a handle",
            "liburcu bp",
            "(no reclamation)",
        ];
        let all = strokes(&names);
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{}", names[index]);
        }
        assert_eq!(strokes(&["sdd"])[0], all[6]);
        let tone = |name: &str| all[names.iter().position(|own| *own == name).expect("there")].0;
        assert_eq!(tone("crossbeam-epoch, by a handle"), tone(PEER));
        assert_eq!(tone("(barrierd again)"), tone(OURS));
        assert_ne!(strokes(&["one", "two"])[0], strokes(&["one", "two"])[1]);
    }

    #[test]
    fn few_round_marks_on_a_linear_axis() {
        let axis = Axis::over([1.0, 47.0].into_iter(), false);
        let marks = axis.marks();
        assert!(marks.contains(&10.0) && (3..=7).contains(&marks.len()), "{marks:?}");
    }
}
