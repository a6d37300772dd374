//! The report: one page without anything from elsewhere.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::kube::text;
use super::play::{self, Ended};
use super::plots::{self, Live};
use super::score::Score;
use super::story::Ending;
use super::svg::escape;
use super::traffic;
use crate::cache;

const STYLE: &str = "
body { font: 16px/1.5 system-ui, 'DejaVu Sans', sans-serif; color: #1c2733; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem }
p { margin: .3rem 0 .8rem; color: #44525f } svg { width: 100%; height: auto; display: block }
svg text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #44525f } svg .tick { font-size: 11px; fill: #6b7885 }
svg .title { font-size: 13px; font-weight: 600; fill: #1c2733 } svg .note { font-size: 11.5px; fill: #1c2733 }
svg .grid { stroke: #e3e8ed; stroke-width: 1 } svg .zero { stroke: #8a96a3; stroke-width: 1.2 }
svg .event { stroke: #1c2733; stroke-width: 1; stroke-dasharray: 3 3 } svg .limit { stroke: #c0392b; stroke-width: 1.3; stroke-dasharray: 5 4 }
svg .series { fill: none; stroke-width: 2.4; stroke-linejoin: round } svg .whisker { stroke: #1c2733; stroke-width: 1.6 }
table { border-collapse: collapse; width: 100%; font-size: .88rem } th, td { text-align: left; vertical-align: top; padding: .45rem .6rem; border-top: 1px solid #e3e8ed }
th { color: #6b7885; font-weight: 600 } td.v { white-space: nowrap; font-weight: 600 } code { font-size: .82rem; background: #f2f5f8; padding: .1rem .3rem; border-radius: 3px }
.good { color: #1a7f4b } .bad { color: #c0392b } .numbers { display: flex; gap: 1rem; flex-wrap: wrap; margin: 1rem 0 }
.numbers div { flex: 1; min-width: 150px; background: #f5f8fa; border-radius: 6px; padding: .7rem .9rem } .numbers b { display: block; font-size: 1.5rem } .numbers span { color: #6b7885; font-size: .85rem }";

/// Writes `report.html` and returns its place.
pub fn write(folder: &Path, namespace: &str, ended: &[Ended], scores: &[Score]) -> Result<PathBuf> {
    let path = folder.join("report.html");
    cache::write(&path, page(namespace, ended, scores))?;
    Ok(path)
}

fn page(namespace: &str, ended: &[Ended], scores: &[Score]) -> String {
    let live = live(ended);
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Flywheel: quickship</title><style>{STYLE}</style>\
         <h1>One loop, five decisions</h1><p>How late a flight will arrive, learned from the real flights of January to \
         June 2001. Every decision below was taken by Flywheel in namespace <code>{}</code>; people asked for runs and \
         approved.</p>",
        escape(namespace)
    );
    html += &numbers(ended, scores, &live);
    html += "<h2>Error per week: the flywheel against its first model, kept frozen</h2><p>Mean absolute error on the \
             flights that arrived in each week. Hollow dots are versions that never became live, on the week in which \
             they were judged.</p>";
    html += &plots::weeks(scores, &live, &refused(ended));
    html += "<h2>Traffic by version while versions changed</h2><p>Requests per second that were answered by each \
             version, as the travellers counted them.</p>";
    let rollouts: Vec<&Ended> = ended.iter().filter(|one| one.rollout.is_some()).collect();
    html += &plots::traffic(&rollouts);
    html += "<h2>Small airports against hubs</h2><p>Change of the error against the live version on the same flights, \
             with 95 % intervals. Left of zero is better. The bias policy allows no group to become worse by more than \
             0.1 minutes.</p>";
    html += &plots::groups(ended);
    html +=
        "<h2>Every decision, and why</h2><table><tr><th>Week</th><th>Version</th><th>Decision</th><th>Reason</th></tr>";
    for one in ended {
        html += &row(one, namespace);
    }
    html + "</table></html>\n"
}

fn row(one: &Ended, namespace: &str) -> String {
    let (class, decision) = match one.turn.ending {
        Ending::Promoted => ("good", "Promoted"),
        Ending::RefusedByGate => ("bad", "Refused by its gate"),
        Ending::RefusedByPolicy => ("bad", "Stopped by the bias policy"),
        Ending::RolledBack => ("bad", "Rolled back"),
    };
    format!(
        "<tr><td>{}</td><td class=\"v\">{}</td><td class=\"v {class}\">{decision}</td><td>{}<br><code>kubectl flywheel \
         explain run {} -n {}</code></td></tr>",
        one.turn.week,
        escape(one.version_name()),
        escape(&play::headline(one)),
        one.turn.run(),
        escape(namespace),
    )
}

/// Four numbers that say it all.
fn numbers(ended: &[Ended], scores: &[Score], live: &[Live]) -> String {
    let counts = ended.iter().map(|one| traffic::count(&one.seconds));
    let (requests, failed) = counts.fold((0, 0), |(r, f), (requests, failed)| (r + requests, f + failed));
    let exposed = ended.iter().find_map(|one| one.exposed).unwrap_or_default();
    let gain = plots::gain(scores, live).map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1} %"));
    let boxes = [
        (gain, "less error than the first model, since the second one is live"),
        (
            format!("{exposed:.0} s"),
            "from first traffic to rollback of the version that was broken in production",
        ),
        (requests.to_string(), "requests of travellers"),
        (failed.to_string(), "of them failed"),
    ];
    let boxes = boxes.map(|(number, what)| format!("<div><b>{number}</b><span>{what}</span></div>"));
    format!("<div class=\"numbers\">{}</div>", boxes.concat())
}

/// Which version served from which week on.
fn live(ended: &[Ended]) -> Vec<Live> {
    let promoted = ended.iter().filter(|one| one.turn.ending == Ending::Promoted);
    promoted
        .map(|one| Live {
            version: one.version_name().to_owned(),
            from: one.turn.week + 1,
        })
        .collect()
}

fn refused(ended: &[Ended]) -> Vec<(u32, String, &'static str)> {
    let never_live = ended.iter().filter(|one| one.turn.ending != Ending::Promoted);
    never_live
        .map(|one| {
            let what = match one.turn.ending {
                Ending::RefusedByGate => "refused",
                Ending::RefusedByPolicy => "stopped",
                Ending::Promoted | Ending::RolledBack => "rolled back",
            };
            (
                one.turn.week,
                text(&one.run, "/status/modelVersion/name").to_owned(),
                what,
            )
        })
        .collect()
}
