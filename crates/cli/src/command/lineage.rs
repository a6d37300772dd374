//! `lineage`: where something comes from, and what came of it.

use super::{DONE, document, print};
use crate::args::{Form, Lineage};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::paper::Paper;
use crate::show;
use crate::subject::{Kind, Subject};
use crate::tree;
use crate::world::World;

/// What `lineage` may be about.
const ACCEPTED: [Kind; 6] = [
    Kind::Version,
    Kind::Run,
    Kind::Rollout,
    Kind::Pipeline,
    Kind::Deployment,
    Kind::Dataset,
];

/// Prints both directions.
pub async fn run(cluster: &Cluster, paper: Paper, args: &Lineage) -> Result<u8, Error> {
    let subject = Subject::parse(&args.subject, &ACCEPTED, Some(Kind::Version))?;
    let world = World::fetch(cluster).await?;
    let found = show::lineage::lineage(&world, &subject)?;
    print(&match args.output.form {
        Form::Table => tree::draw(paper, &[found.tree()]),
        Form::Name => format!("{}/{}\n", subject.kind.word(), found.subject.name),
        Form::Json | Form::Yaml => document(&found, args.output.form)?,
    })?;
    Ok(DONE)
}
