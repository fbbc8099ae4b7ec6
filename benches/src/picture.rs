//! Pictures, as SVG by hand: horizontal bars, and lines over a number.
//!
//! No background, middle tones and a media query, so that they can be read on light and on dark.

use crate::contest::Better;
use crate::schemes::{AGAIN, BY_BIRTHS, NOTHING_FREED, OURS, PEER};
use crate::stats::{Spread, number};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

const STYLE: &str = "<style>\
    text{font:12px system-ui,sans-serif;fill:#4d5560}.head{font-weight:600}.small{font-size:11px}\
    .rule{stroke:#8a94a0;stroke-opacity:.45;stroke-width:1}.spread{stroke:#24292f;stroke-width:1.5}\
    .bound{fill-opacity:0;stroke-dasharray:3 2}.mark{stroke:#e08a1e;stroke-width:1.5;stroke-dasharray:4 3}\
    @media(prefers-color-scheme:dark){text{fill:#c3cbd5}.spread{stroke:#f0f3f6}}</style>";

/// Tones that differ on white and on black, and for most who see fewer colours.
const TONES: [&str; 10] = [
    "#2f81d8", "#e08a1e", "#2aa198", "#c0587e", "#8a6fd1", "#7a9a2e", "#8f98a3", "#b5651d",
    "#4bb3e6", "#d0513c",
];

/// The tone of each scheme and each library, the same in all pictures; two of one tone are never in one picture, unless they
/// are ways of one kind.
const SCHEMES: [(&str, &str); 30] = [
    (OURS, TONES[0]),
    (AGAIN, TONES[0]),
    (PEER, TONES[1]),
    ("seize", TONES[2]),
    ("haphazard", TONES[3]),
    ("sdd", TONES[4]),
    (BY_BIRTHS, TONES[5]),
    (NOTHING_FREED, TONES[6]),
    ("(no reclamation)", TONES[6]),
    ("(empty loop)", TONES[6]),
    ("liburcu memb", TONES[7]),
    ("liburcu qsbr", TONES[9]),
    ("liburcu bp", TONES[8]),
    // Locks are red.
    ("Mutex", TONES[9]),
    ("RwLock", TONES[9]),
    ("rwlock", TONES[9]),
    ("arc-swap", TONES[1]),
    ("left-right", TONES[3]),
    ("crossbeam-queue", TONES[1]),
    ("concurrent-queue", TONES[3]),
    ("papaya", TONES[1]),
    ("scc", TONES[2]),
    ("dashmap", TONES[3]),
    ("flurry", TONES[5]),
    ("crossbeam-skiplist", TONES[7]),
    ("in one process", TONES[2]),
    ("LMDB", TONES[1]),
    ("seqlock", TONES[5]),
    ("membarrier", TONES[2]),
    ("mprotect", TONES[5]),
];
/// What tells the ways of one scheme apart, which have one tone: the first is solid.
const DASHES: [&str; 9] =
    ["", "6 3", "2 2", "10 3 2 3", "1 3", "12 4", "8 2 2 2 2 2", "4 6", "14 2"];
/// The same of bars.
const SHADES: [f64; 9] = [1.0, 0.8, 0.64, 0.51, 0.41, 0.33, 0.26, 0.21, 0.17];

/// Returns the tone of each of these, and which way of its scheme it is. A name that goes on after a scheme's is a way of it;
/// those that are no schemes have tones by their order.
fn tones(names: &[&str]) -> Vec<(&'static str, usize)> {
    let mut all: Vec<(&'static str, usize)> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let known = SCHEMES.iter().find(|(scheme, _)| name.starts_with(scheme));
        let tone = known.map_or(TONES[index % TONES.len()], |(_, tone)| tone);
        let ways = all.iter().filter(|(own, _)| *own == tone).count();
        all.push((tone, ways));
    }
    all
}

fn strokes(names: &[&str]) -> Vec<(&'static str, &'static str)> {
    tones(names).into_iter().map(|(tone, way)| (tone, DASHES[way % DASHES.len()])).collect()
}

fn direction(better: Option<Better>, [lower, higher]: [&'static str; 2]) -> &'static str {
    match better {
        None => "",
        Some(Better::Lower) => lower,
        Some(Better::Higher) => higher,
    }
}

const WIDTH: f64 = 760.0;
/// What a letter takes at most, on average.
const LETTER: f64 = 6.8;

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
        const RIGHT: f64 = WIDTH - 70.0;
        const BAR: f64 = 16.0;
        let mut names: Vec<&str> = Vec::new();
        for (who, _) in self.groups.iter().flat_map(|(_, bars)| bars) {
            if !names.contains(&who.as_str()) {
                names.push(who);
            }
        }
        let tones = tones(&names);
        // Room for the longest name.
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let left = (24.0 + LETTER * longest as f64).max(100.0);
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
        let x = |value: f64| left + part(value) * (RIGHT - left);
        let (mut inside, mut y) = (String::new(), 34.0);
        let mark = self.mark.as_ref().map(|(at, _)| x(*at));
        for (name, bars) in &self.groups {
            if !name.is_empty() {
                text(&mut inside, 8.0, y + 12.0, " class=\"head\"", name);
                y += BAR + 2.0;
            }
            // Not across the names.
            if let Some(at) = mark {
                line(&mut inside, "mark", [at, y - 2.0, at, y + BAR * bars.len() as f64 + 2.0]);
            }
            for (who, spread) in bars {
                text(&mut inside, left - 8.0, y + 12.0, " text-anchor=\"end\"", who);
                let width = (x(spread.median) - left).max(1.0);
                let of = names.iter().position(|name| name == who).unwrap_or(0);
                let (tone, way) = tones[of];
                let bound = if who.starts_with('(') { " class=\"bound\"" } else { "" };
                let _ = write!(
                    inside,
                    "<rect{bound} fill=\"{tone}\" fill-opacity=\"{}\" stroke=\"{tone}\" x=\"{left:.1}\" y=\"{:.1}\" \
                     width=\"{width:.1}\" height=\"{:.1}\"/>",
                    SHADES[way % SHADES.len()],
                    y + 2.0,
                    BAR - 4.0
                );
                let middle = y + BAR / 2.0;
                line(&mut inside, "spread", [x(spread.low), middle, x(spread.high), middle]);
                let figure = number(spread.median);
                let mut behind = x(spread.high.max(spread.median)) + 6.0;
                // Not across the mark.
                let end = behind + LETTER * figure.chars().count() as f64;
                behind = mark
                    .filter(|at| behind < *at + 4.0 && *at < end + 4.0)
                    .map_or(behind, |at| at + 5.0);
                text(&mut inside, behind, y + 12.0, " class=\"small\"", &figure);
                y += BAR;
            }
            y += 10.0;
        }
        if let Some((at, says)) = &self.mark {
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
        // Whole decades, unless all lies within two.
        if log && high > low * 100.0 {
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
        if self.log && self.high >= self.low * 5.0 {
            let (first, last) = (self.low.log10().floor(), self.high.log10().ceil());
            let decades = std::iter::successors(Some(first), |at| Some(at + 1.0));
            // Few decades have marks between them.
            let steps: &[f64] =
                if self.high >= self.low * 1000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            return decades
                .take_while(|at| *at <= last)
                .flat_map(|at| steps.iter().map(move |step| step * 10f64.powf(at)))
                .filter(|at| *at >= self.low * 0.999 && *at <= self.high * 1.001)
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
        for (at, _) in &mut names {
            *at = at.max(free + 14.0);
            free = *at;
        }
        // Up again, as far as there is room, where they went below the axis.
        let mut under = BOTTOM + 14.0;
        for (at, _) in names.iter_mut().rev() {
            *at = at.min(under - 14.0).max(TOP);
            under = *at;
        }
        free = names.last().map_or(free, |(at, _)| *at);
        for (at, index) in names {
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
        assert!(svg.contains("width=\"590.0\"") && svg.contains("width=\"295.0\""), "{svg}");
    }

    #[test]
    fn a_decade_is_as_long_as_the_next_on_a_logarithmic_scale() {
        let bars =
            ["x", "y"].into_iter().zip([10.0, 100.0]).map(|(name, at)| (name.to_owned(), flat(at)));
        let bars =
            Bars { groups: vec![(String::new(), bars.collect())], log: true, ..Bars::default() };
        let svg = bars.svg();
        assert!(svg.contains("width=\"590.0\"") && svg.contains("width=\"295.0\""), "{svg}");
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

    #[test]
    fn in_each_picture_of_the_last_run_no_two_look_alike_and_all_names_fit() {
        use crate::report::{Item, Report};
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let report = Report::load(&docs).expect("the last run's data");
        let mut seen = 0;
        for item in &report.items {
            let Item::Picture { name: of, picture, .. } = item else { continue };
            seen += 1;
            let (names, better) = match picture {
                Picture::Bars(bars) => (
                    bars.groups.iter().flat_map(|(_, bars)| bars).map(|(who, _)| who).collect(),
                    bars.better,
                ),
                Picture::Lines(lines) => {
                    (lines.series.iter().map(|(who, _)| who).collect::<Vec<_>>(), lines.better)
                }
            };
            assert!(better.is_some(), "{of} doesn't say which way is better");
            let mut once: Vec<&str> = Vec::new();
            for name in names {
                if !once.contains(&name.as_str()) {
                    once.push(name);
                }
            }
            let looks = tones(&once);
            let kind = |name: &str| SCHEMES.iter().position(|(own, _)| name.starts_with(own));
            for (index, (tone, way)) in looks.iter().enumerate() {
                assert!(*way < DASHES.len(), "{of}: {}", once[index]);
                for (other, (same, of_it)) in looks.iter().enumerate().take(index) {
                    assert!((tone, way) != (same, of_it), "{of}: {}, {}", once[index], once[other]);
                    // Ways of one kind share its tone; bounds are outlines.
                    let alike = kind(once[index]).is_some_and(|it| Some(it) == kind(once[other]));
                    let bound = once[index].starts_with('(') || once[other].starts_with('(');
                    assert!(tone != same || alike || bound, "{of}: {}", once[index]);
                }
            }
            let svg = picture.svg();
            assert!(svg.contains("is better</text>"), "{of}");
            // Names of bars end at the bars; none begins left of the picture.
            for line in svg.split("<text x=\"").skip(1).filter(|it| it.contains("\"end\"")) {
                let (x, rest) = line.split_once('"').expect("a place");
                let words = rest.split_once('>').and_then(|(_, it)| it.split_once('<'));
                let words = words.expect("words").0.replace("&lt;", "<").replace("&gt;", ">");
                let letters = words.chars().count() as f64;
                let x: f64 = x.parse().expect("a number");
                assert!(x >= letters * LETTER, "{of}: {line}");
            }
        }
        assert!(seen > 10, "{seen}");
    }
}
