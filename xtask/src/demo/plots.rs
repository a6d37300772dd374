//! The plots of the report.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kube::text;
use super::play::{self, Ended};
use super::score::Score;
use super::story::Ending;
use super::svg::{Anchor, Frame, Svg};
use super::traffic::Second;
use super::watch;

/// From which week on a version served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The version.
    pub version: String,
    /// First week of which it answered the trips.
    pub from: u32,
}

const WIDTH: f64 = 960.0;
const FROZEN: &str = "#9aa5b1";
const BLUE: &str = "#1f6feb";
const RED: &str = "#d1495b";
/// Colours of versions, in the order in which they appear; the timetable is grey.
const COLORS: [&str; 6] = ["#4c9be8", "#1b4f9c", "#e0a82e", "#8a5fbf", "#d1495b", "#2a9d8f"];

/// The live version's scores by week, and those of the first version.
fn lines(scores: &[Score], live: &[Live]) -> Vec<(u32, f64, f64)> {
    let score = |week: u32, version: &str| {
        let mut all = scores.iter();
        all.find(|s| s.week == week && s.version == version).map(|s| s.all)
    };
    let first = live.first().map_or("", |l| l.version.as_str());
    let mut weeks: Vec<u32> = scores.iter().map(|s| s.week).collect();
    weeks.sort_unstable();
    weeks.dedup();
    let of_week = |week: u32| {
        let serving = live.iter().rev().find(|l| l.from <= week)?;
        Some((week, score(week, first)?, score(week, &serving.version)?))
    };
    weeks.into_iter().filter_map(of_week).collect()
}

/// How much smaller the error is than that of the first version, in percent, since the second one is live.
pub fn gain(scores: &[Score], live: &[Live]) -> Option<f64> {
    let from = live.get(1)?.from;
    let since: Vec<_> = lines(scores, live)
        .into_iter()
        .filter(|(week, ..)| *week >= from)
        .collect();
    let frozen: f64 = since.iter().map(|(_, frozen, _)| frozen).sum();
    let flywheel: f64 = since.iter().map(|(_, _, flywheel)| flywheel).sum();
    (frozen > 0.0).then(|| (1.0 - flywheel / frozen) * 100.0)
}

/// A version that never became live, on the week in which it was judged.
struct Refused<'a> {
    week: f64,
    error: f64,
    version: &'a str,
    what: &'a str,
}

/// Error per week, and the minutes that the flywheel saved.
pub fn weeks(scores: &[Score], live: &[Live], refused: &[(u32, String, &str)]) -> String {
    let points = lines(scores, live);
    let mut svg = Svg::new(WIDTH, 486.0);
    if points.is_empty() {
        return svg.finish("no scores");
    }
    let judged = refused.iter().filter_map(|(week, version, what)| {
        let score = scores.iter().find(|s| s.week == *week && s.version == *version)?;
        Some(Refused {
            week: f64::from(*week),
            error: score.all,
            version,
            what,
        })
    });
    let judged: Vec<_> = judged.collect();
    let above = errors(&mut svg, &points, &judged);
    for one in &judged {
        mark_refused(&mut svg, &above, one);
    }
    for one in live.iter().skip(1) {
        mark_live(&mut svg, &above, one);
    }
    saved(&mut svg, &points);
    svg.finish("Error per week of the flywheel and of the first model")
}

/// The errors of what served and of the first model; the frame has room for those of refused versions, too.
fn errors(svg: &mut Svg, points: &[(u32, f64, f64)], refused: &[Refused<'_>]) -> Frame {
    let all = points
        .iter()
        .flat_map(|(_, a, b)| [*a, *b])
        .chain(refused.iter().map(|one| one.error));
    let (low, high) = all.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let frame = Frame {
        x: (60.0, 940.0),
        y: (40.0, 280.0),
        from_to: (3.5, 25.5),
        low_high: ((low - 0.6).floor(), (high + 0.6).ceil()),
    };
    frame.axes(svg, 1.0, 2.0);
    svg.text(60.0, 20.0, Anchor::Start, "title", "Mean absolute error, minutes");
    let series = |pick: fn(&(u32, f64, f64)) -> f64| {
        let each = points.iter().map(|p| frame.at(f64::from(p.0), pick(p)));
        each.collect::<Vec<_>>()
    };
    svg.path(&series(|p| p.1), FROZEN, "series");
    svg.path(&series(|p| p.2), BLUE, "series");
    legend(
        svg,
        &[("first model, kept frozen", FROZEN), ("flywheel (what served)", BLUE)],
    );
    frame
}

fn mark_refused(svg: &mut Svg, frame: &Frame, one: &Refused<'_>) {
    let Refused { version, what, .. } = one;
    let (x, y) = frame.at(one.week, one.error);
    svg.dot((x, y), RED, true);
    let (anchor, gap) = if one.week >= 24.0 {
        (Anchor::End, -9.0)
    } else {
        (Anchor::Start, 9.0)
    };
    // Two of them lie close together: the lower one gets its name below.
    let down = if *what == "stopped" { 16.0 } else { -8.0 };
    svg.text(x + gap, y + down, anchor, "note", &format!("{version} {what}"));
}

fn mark_live(svg: &mut Svg, frame: &Frame, one: &Live) {
    let (x, _) = frame.at(f64::from(one.from) - 0.5, 0.0);
    svg.line((x, 40.0), (x, 440.0), "event");
    let note = format!("{} is live", one.version);
    svg.text(x + 6.0, 52.0, Anchor::Start, "note", &note);
}

fn saved(svg: &mut Svg, points: &[(u32, f64, f64)]) {
    let differences = points
        .iter()
        .map(|(week, frozen, flywheel)| (f64::from(*week), frozen - flywheel));
    let differences: Vec<(f64, f64)> = differences.collect();
    let most = differences.iter().map(|d| d.1).fold(0.5, f64::max);
    let least = differences.iter().map(|d| d.1).fold(0.0, f64::min);
    let below = Frame {
        x: (60.0, 940.0),
        y: (340.0, 440.0),
        from_to: (3.5, 25.5),
        low_high: ((least * 2.0).floor() / 2.0, (most * 2.0).ceil() / 2.0),
    };
    below.axes(svg, 1.0, 0.5);
    svg.text(60.0, 326.0, Anchor::Start, "title", "Minutes saved per trip");
    svg.text(500.0, 478.0, Anchor::Middle, "tick", "week of arrival");
    for (week, minutes) in differences {
        let color = if minutes < 0.0 { RED } else { BLUE };
        svg.bar(below.at(week - 0.35, 0.0), below.at(week + 0.35, minutes), color);
    }
}

fn legend(svg: &mut Svg, entries: &[(&str, &str)]) {
    let mut x = 940.0;
    for (name, color) in entries.iter().rev() {
        svg.text(x, 20.0, Anchor::End, "note", name);
        #[expect(clippy::cast_precision_loss, reason = "names are short")]
        let width = name.chars().count() as f64 * 6.0 + 28.0;
        svg.bar((x - width + 4.0, 11.0), (x - width + 18.0, 21.0), color);
        x -= width + 18.0;
    }
}

/// Requests per second by version, one panel for each rollout.
pub fn traffic(rollouts: &[&Ended]) -> String {
    let mut svg = Svg::new(WIDTH, 300.0);
    let versions = versions(rollouts);
    let names: Vec<(&str, &str)> = versions.iter().map(|v| (shown(v), color(&versions, v))).collect();
    legend(&mut svg, &names);
    #[expect(clippy::cast_precision_loss, reason = "there are few panels")]
    let room = 880.0 / rollouts.len().max(1) as f64;
    let all = rollouts.iter().flat_map(|one| bins(&one.seconds, 0.0));
    let most = all.map(|bin| bin.rates.values().sum()).fold(1.0, f64::max);
    let mut left = 60.0;
    for one in rollouts {
        let start = one.seconds.first().map_or(0.0, |s| s.at);
        let end = one.seconds.last().map_or(1.0, |s| s.at - start);
        let frame = Frame {
            x: (left, left + room - 30.0),
            y: (60.0, 250.0),
            from_to: (0.0, end.max(1.0)),
            low_high: (0.0, (most / 10.0).ceil() * 10.0),
        };
        panel(&mut svg, &frame, one, &versions, start);
        left += room;
    }
    svg.text(
        500.0,
        292.0,
        Anchor::Middle,
        "tick",
        "seconds; requests per second, mean of three seconds",
    );
    svg.finish("Requests per second by version during the rollouts")
}

fn panel(svg: &mut Svg, frame: &Frame, one: &Ended, versions: &[String], start: f64) {
    let step = if frame.from_to.1 > 120.0 { 60.0 } else { 30.0 };
    let bins = bins(&one.seconds, start);
    let mut base: Vec<f64> = vec![0.0; bins.len()];
    for version in versions {
        let more = |bin: &Bin| bin.rates.get(version).copied().unwrap_or(0.0);
        let top: Vec<f64> = bins.iter().zip(&base).map(|(bin, base)| base + more(bin)).collect();
        let edge = |heights: &[f64]| {
            let each = bins.iter().zip(heights).map(|(bin, y)| frame.at(bin.at, *y));
            each.collect::<Vec<_>>()
        };
        let mut points = edge(&top);
        points.extend(edge(&base).into_iter().rev());
        svg.area(&points, color(versions, version));
        base = top;
    }
    frame.axes(svg, step, 20.0);
    let title = format!("week {}: {}", one.turn.week, one.version_name());
    svg.text(frame.x.0, 46.0, Anchor::Start, "title", &title);
    if one.turn.ending == Ending::RolledBack
        && let Some(decided) = rollback(one)
    {
        let (x, _) = frame.at(decided - start, 0.0);
        svg.line((x, 52.0), (x, 250.0), "event");
        let (anchor, gap) = if x > frame.x.1 - 80.0 {
            (Anchor::End, -5.0)
        } else {
            (Anchor::Start, 5.0)
        };
        svg.text(x + gap, 72.0, anchor, "note", "rolls back");
    }
}

/// Answers per second by version, over three seconds.
#[derive(Debug, PartialEq)]
struct Bin {
    at: f64,
    rates: BTreeMap<String, f64>,
}

#[expect(clippy::cast_precision_loss, reason = "requests of a second are few")]
fn bins(seconds: &[Second], start: f64) -> Vec<Bin> {
    let mut before = seconds.first().map_or(0.0, |s| s.at - 1.0);
    let mut bins = Vec::new();
    for three in seconds.chunks(3) {
        let end = three.last().map_or(before, |s| s.at);
        // A line that came late stands for more than a second.
        let time = (end - before).max(1.0);
        let mut rates = BTreeMap::new();
        for (version, answers) in three.iter().flat_map(|s| &s.answers) {
            *rates.entry(version.clone()).or_insert(0.0) += *answers as f64 / time;
        }
        bins.push(Bin { at: end - start, rates });
        before = end;
    }
    bins
}

fn rollback(one: &Ended) -> Option<f64> {
    let decisions = one.rollout.as_ref()?.pointer("/status/decisions")?.as_array()?;
    let back = decisions.iter().find(|d| text(d, "/decision") == "RollBack")?;
    play::moment(text(back, "/at"))
}

fn versions(rollouts: &[&Ended]) -> Vec<String> {
    let all = rollouts
        .iter()
        .flat_map(|one| &one.seconds)
        .flat_map(|s| s.answers.keys());
    let mut all: Vec<String> = all.cloned().collect();
    all.sort_by_key(|version| (version != "none", version.clone()));
    all.dedup();
    all
}

fn shown(version: &str) -> &str {
    if version == "none" { "timetable" } else { version }
}

fn color<'a>(versions: &[String], version: &str) -> &'a str {
    if version == "none" {
        return "#c9d1d9";
    }
    let place = versions.iter().filter(|v| *v != "none").position(|v| v == version);
    COLORS.get(place.unwrap_or(0) % COLORS.len()).copied().unwrap_or(BLUE)
}

/// Changes of both groups against the live version, with their intervals.
pub fn groups(ended: &[Ended]) -> String {
    let compared = ended.iter().filter(|one| !changes(&one.run).is_empty());
    let compared: Vec<&Ended> = compared.collect();
    #[expect(clippy::cast_precision_loss, reason = "there are few rows")]
    let height = compared.len() as f64 * 62.0 + 70.0;
    let mut svg = Svg::new(WIDTH, height);
    let all = compared
        .iter()
        .flat_map(|one| changes(&one.run))
        .flat_map(|c| [c.2, c.3]);
    let (low, high) = all.fold((-0.5_f64, 0.5_f64), |(low, high), v| (low.min(v), high.max(v)));
    let frame = Frame {
        x: (250.0, 940.0),
        y: (34.0, height - 40.0),
        from_to: ((low * 2.0).floor() / 2.0, (high * 2.0).ceil() / 2.0),
        low_high: (0.0, 1.0),
    };
    frame.x_axis(&mut svg, 0.5);
    for value in [0.0, 0.1] {
        let (x, _) = frame.at(value, 0.0);
        svg.line(
            (x, 34.0),
            (x, height - 40.0),
            if value > 0.0 { "limit" } else { "zero" },
        );
    }
    svg.text(
        595.0,
        height - 6.0,
        Anchor::Middle,
        "tick",
        "minutes against the live version; dashed: the policy's limit",
    );
    legend(&mut svg, &[("small airports", RED), ("hubs", BLUE)]);
    let mut y = 58.0;
    for one in compared {
        let label = format!("week {}: {}", one.turn.week, one.version_name());
        svg.text(20.0, y + 4.0, Anchor::Start, "title", &label);
        svg.text(20.0, y + 22.0, Anchor::Start, "tick", ending(one.turn.ending));
        for (group, value, low, high) in changes(&one.run) {
            let small = group == "small";
            let row = if small { y - 2.0 } else { y + 20.0 };
            let color = if small { RED } else { BLUE };
            svg.line((frame.at(low, 0.0).0, row), (frame.at(high, 0.0).0, row), "whisker");
            svg.dot((frame.at(value, 0.0).0, row), color, false);
        }
        y += 62.0;
    }
    svg.finish("Change of the error at small airports and hubs")
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Promoted => "promoted",
        Ending::RefusedByGate => "refused by its gate",
        Ending::RefusedByPolicy => "stopped by the bias policy",
        Ending::RolledBack => "fine offline, rolled back in production",
    }
}

/// Group, difference, and its bounds.
fn changes(run: &Value) -> Vec<(String, f64, f64, f64)> {
    let number = |group: &Value, key: &str| text(group, key).parse::<f64>().ok();
    let each = watch::groups(run).into_iter().filter_map(|group| {
        Some((
            text(group, "/name").to_owned(),
            number(group, "/baseline/difference")?,
            number(group, "/baseline/low")?,
            number(group, "/baseline/high")?,
        ))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(week: u32, version: &str, all: f64) -> Score {
        Score {
            week,
            version: version.to_owned(),
            all,
            small: all,
            hub: all,
        }
    }

    fn live() -> Vec<Live> {
        let one = |version: &str, from| Live {
            version: version.to_owned(),
            from,
        };
        vec![one("eta-1", 4), one("eta-2", 6)]
    }

    #[test]
    fn the_gain_counts_from_the_week_in_which_the_second_version_serves() {
        let scores = [
            score(5, "eta-1", 10.0),
            score(5, "eta-2", 1.0),
            score(6, "eta-1", 10.0),
            score(6, "eta-2", 9.0),
        ];
        assert_eq!(lines(&scores, &live()), [(5, 10.0, 10.0), (6, 10.0, 9.0)]);
        assert!(gain(&scores, &live()).is_some_and(|percent| (percent - 10.0).abs() < 1e-9));
    }

    #[test]
    fn a_second_that_was_reported_late_does_not_look_like_a_rush() {
        let second = |at, answers| Second {
            at,
            answers: [("eta-1".to_owned(), answers)].into(),
            ..Second::default()
        };
        let bins = bins(&[second(1.0, 50), second(2.0, 50), second(6.0, 200)], 0.0);
        let rates: Vec<_> = bins.iter().filter_map(|bin| bin.rates.get("eta-1")).copied().collect();
        assert_eq!(rates, [50.0]);
    }

    #[test]
    fn a_plot_names_the_version_that_was_refused() {
        let scores = [
            score(5, "eta-1", 10.0),
            score(6, "eta-1", 10.0),
            score(6, "eta-2", 9.0),
            score(6, "eta-3", 12.0),
        ];
        let plot = weeks(&scores, &live(), &[(6, "eta-3".to_owned(), "refused")]);
        assert!(plot.contains("eta-3 refused") && plot.contains("eta-2 is live"));
        assert!(!plot.contains("NaN"));
    }
}
