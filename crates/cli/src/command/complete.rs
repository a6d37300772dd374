//! `__complete`: what may stand next on the command line, for `kubectl_complete-flywheel`.
//!
//! kubectl asks a program of that name, in the form of cobra: one proposal a line, then `:` and what the shell may do
//! besides (4: propose no files).

use clap::CommandFactory;

use super::{DONE, get, print};
use crate::args::{Arguments, Complete};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::subject::Kind;
use crate::world::World;

/// Kinds that are proposed.
const KINDS: [Kind; 6] = [
    Kind::Pipeline,
    Kind::Run,
    Kind::Version,
    Kind::Rollout,
    Kind::Policy,
    Kind::Deployment,
];

/// Prints the proposals; a cluster that does not answer only means fewer of them.
pub async fn run(cluster: Option<&Cluster>, args: &Complete) -> Result<u8, Error> {
    let mut proposals = words(&args.words);
    if let Some((kind, cluster)) = named_kind(&args.words).zip(cluster)
        && let Ok(world) = World::fetch(cluster).await
    {
        proposals = get::names(&world, kind);
    }
    let begun = args.words.last().map(String::as_str).unwrap_or_default();
    let fitting = proposals.iter().filter(|p| p.starts_with(begun));
    let text: String = fitting.map(|p| format!("{p}\n")).collect();
    print(&format!("{text}:4\n"))?;
    Ok(DONE)
}

/// Words that are no flags; the last one is being written.
fn plain(words: &[String]) -> Vec<&str> {
    words
        .iter()
        .map(String::as_str)
        .filter(|w| !w.starts_with('-'))
        .collect()
}

fn words(words: &[String]) -> Vec<String> {
    let command = Arguments::command();
    let visible = command.get_subcommands().filter(|c| !c.is_hide_set());
    match plain(words).as_slice() {
        [] | [_] => visible.map(|c| c.get_name().to_owned()).collect(),
        [verb, _] if *verb == "run" => Vec::new(),
        [_, _] => KINDS.iter().map(|k| k.word().to_owned()).collect(),
        _ => Vec::new(),
    }
}

/// The kind whose names are wanted: `approve rollout <here>`, and `run <here>`.
fn named_kind(words: &[String]) -> Option<Kind> {
    match plain(words).as_slice() {
        [verb, _] if *verb == "run" => Some(Kind::Pipeline),
        [_, kind, _] => Kind::of(kind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn verbs_then_kinds_then_names_are_proposed() {
        assert!(words(&line("app")).contains(&"approve".to_owned()));
        assert!(!words(&line("")).contains(&"__complete".to_owned()));
        assert!(words(&line("approve ro")).contains(&"rollout".to_owned()));
        assert_eq!(named_kind(&line("approve rollout et")), Some(Kind::Rollout));
        assert_eq!(named_kind(&line("run et")), Some(Kind::Pipeline));
        assert_eq!(named_kind(&line("approve ro")), None);
    }
}
