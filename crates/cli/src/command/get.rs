//! `get`: the loop as a tree, once or again and again.

use serde_json::{Value, json};

use super::{DONE, document, print, typed, watch};
use crate::args::{Form, Get};
use crate::cluster::{Cluster, Kind as Resource, resource};
use crate::error::{Error, refused};
use crate::paper::{Paper, Tone};
use crate::show;
use crate::subject::{Kind, Subject};
use crate::tree::{self, Node};
use crate::world::World;

/// What `get NAME` may be about.
const ACCEPTED: [Kind; 6] = [
    Kind::Pipeline,
    Kind::Run,
    Kind::Version,
    Kind::Rollout,
    Kind::Policy,
    Kind::Deployment,
];

/// What of the world is shown.
enum Chosen {
    Everything,
    All(Kind),
    One(Subject),
}

/// Prints the tree, and again whenever it changes.
pub async fn run(cluster: &Cluster, paper: Paper, args: &Get) -> Result<u8, Error> {
    let chosen = chosen(&args.subject)?;
    let cluster = if args.all_namespaces {
        if matches!(chosen, Chosen::One(_)) {
            return refused("an object lies in one namespace: use -n NAMESPACE instead of --all-namespaces");
        }
        cluster.within("")
    } else {
        cluster.clone()
    };
    let draw = |world: &World| text(world, paper, args, &chosen);
    if args.watch {
        let limit = args
            .timeout
            .as_deref()
            .map(|t| super::length("timeout", t))
            .transpose()?;
        watch::draw(&cluster, limit, draw, |_| false).await?;
    } else {
        print(&draw(&World::fetch(&cluster).await?)?)?;
    }
    Ok(DONE)
}

/// One word is a kind; two, or one with a slash, are an object.
fn chosen(words: &[String]) -> Result<Chosen, Error> {
    match words {
        [] => Ok(Chosen::Everything),
        [word] if !word.contains('/') => match Kind::of(word).filter(|k| ACCEPTED.contains(k)) {
            Some(kind) => Ok(Chosen::All(kind)),
            None => Subject::parse(words, &ACCEPTED, None).map(Chosen::One),
        },
        words => Subject::parse(words, &ACCEPTED, None).map(Chosen::One),
    }
}

fn text(world: &World, paper: Paper, args: &Get, chosen: &Chosen) -> Result<String, Error> {
    let objects = || objects(world, chosen);
    match args.output.form {
        Form::Table => drawing(world, paper, args, chosen),
        Form::Name => {
            let names = objects()?.into_iter().map(|(name, _)| format!("{name}\n"));
            Ok(names.collect())
        }
        Form::Json | Form::Yaml => {
            let mut found: Vec<Value> = objects()?.into_iter().map(|(_, value)| value).collect();
            let single = matches!(chosen, Chosen::One(_)) && found.len() == 1;
            let whole = match found.pop() {
                Some(one) if single => one,
                last => {
                    found.extend(last);
                    json!({ "apiVersion": "v1", "kind": "List", "items": found })
                }
            };
            document(&whole, args.output.form)
        }
    }
}

fn drawing(world: &World, paper: Paper, args: &Get, chosen: &Chosen) -> Result<String, Error> {
    let parts: Vec<World> = if args.all_namespaces {
        world.namespaces().iter().map(|n| world.within(n)).collect()
    } else {
        vec![world.clone()]
    };
    let mut text = String::new();
    for part in &parts {
        let nodes = nodes(part, args, chosen)?;
        if nodes.is_empty() {
            continue;
        }
        if args.all_namespaces {
            text.push_str(&format!(
                "{}\n",
                paper.paint(Tone::Strong, &format!("namespace {}", part.namespace))
            ));
        }
        text.push_str(&tree::draw(paper, &nodes));
    }
    if text.is_empty() {
        let place = if world.namespace.is_empty() {
            "any namespace".to_owned()
        } else {
            format!("namespace {}", world.namespace)
        };
        text =
            format!("There is nothing of Flywheel in {place}: apply a FlywheelPipeline, or choose another with -n.\n");
    }
    let left_out = [
        ("you may not list them", world.hidden.join(", ")),
        ("they cannot be read", world.unreadable.join(", ")),
    ];
    for (why, names) in left_out.into_iter().filter(|(_, names)| !names.is_empty()) {
        let note = format!("Not shown, because {why}: {names}.");
        text.push_str(&format!("{}\n", paper.paint(Tone::Quiet, &note)));
    }
    Ok(text)
}

fn nodes(world: &World, args: &Get, chosen: &Chosen) -> Result<Vec<Node>, Error> {
    match chosen {
        Chosen::Everything => show::get::tree(world, None, args.all),
        Chosen::One(subject) => show::get::tree(world, Some(subject), args.all),
        Chosen::All(kind) => {
            let mut nodes = Vec::new();
            for name in names(world, *kind) {
                let subject = Subject { kind: *kind, name };
                nodes.extend(show::get::tree(world, Some(&subject), args.all)?);
            }
            Ok(nodes)
        }
    }
}

/// The names of all objects of a kind.
#[must_use]
pub fn names(world: &World, kind: Kind) -> Vec<String> {
    fn of<K: Resource>(all: &[K]) -> Vec<String> {
        let mut names: Vec<String> = all.iter().filter_map(|o| o.meta().name.clone()).collect();
        names.sort();
        names
    }
    match kind {
        Kind::Pipeline => of(&world.pipelines),
        Kind::Run => of(&world.runs),
        Kind::Version => of(&world.versions),
        Kind::Rollout => of(&world.rollouts),
        Kind::Policy => of(&world.policies),
        Kind::Approval => of(&world.approvals),
        Kind::Deployment => of(&world.deployments),
        Kind::Dataset => Vec::new(),
    }
}

/// The chosen objects themselves, with `resource/name`.
fn objects(world: &World, chosen: &Chosen) -> Result<Vec<(String, Value)>, Error> {
    fn of<K: Resource>(all: &[K], wanted: Option<&str>) -> Result<Vec<(String, Value)>, Error> {
        let chosen = all
            .iter()
            .filter(|o| wanted.is_none_or(|name| o.meta().name.as_deref() == Some(name)));
        chosen
            .map(|o| {
                let mut object = o.clone();
                object.meta_mut().managed_fields = None;
                let name = object.meta().name.clone().unwrap_or_default();
                Ok((format!("{}/{name}", resource::<K>()), typed(&object)?))
            })
            .collect()
    }
    let kinds: &[Kind] = match chosen {
        Chosen::Everything => &[Kind::Pipeline, Kind::Run, Kind::Version, Kind::Rollout],
        Chosen::All(kind) => std::slice::from_ref(kind),
        Chosen::One(subject) => {
            // Says what is wrong where there is no such object.
            show::get::tree(world, Some(subject), false)?;
            std::slice::from_ref(&subject.kind)
        }
    };
    let wanted = match chosen {
        Chosen::One(subject) => Some(subject.name.as_str()),
        Chosen::Everything | Chosen::All(_) => None,
    };
    let mut found = Vec::new();
    for kind in kinds {
        found.extend(match kind {
            Kind::Pipeline => of(&world.pipelines, wanted)?,
            Kind::Run => of(&world.runs, wanted)?,
            Kind::Version => of(&world.versions, wanted)?,
            Kind::Rollout => of(&world.rollouts, wanted)?,
            Kind::Policy => of(&world.policies, wanted)?,
            Kind::Approval => of(&world.approvals, wanted)?,
            Kind::Deployment => of(&world.deployments, wanted)?,
            Kind::Dataset => Vec::new(),
        });
    }
    Ok(found)
}
