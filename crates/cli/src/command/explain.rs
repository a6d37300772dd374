//! `explain`: why something stands where it stands.

use super::{DONE, document, print};
use crate::args::{Explain, Form};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::paper::Paper;
use crate::show;
use crate::subject::{Kind, Subject};
use crate::world::World;

/// What `explain` may be about.
const ACCEPTED: [Kind; 5] = [Kind::Pipeline, Kind::Run, Kind::Version, Kind::Rollout, Kind::Policy];

/// Prints the explanation.
pub async fn run(cluster: &Cluster, paper: Paper, args: &Explain) -> Result<u8, Error> {
    let subject = Subject::parse(&args.subject, &ACCEPTED, None)?;
    let world = World::fetch(cluster).await?;
    let explanation = show::explain::explain(&world, &subject, args.all)?;
    print(&match args.output.form {
        Form::Table => explanation.draw(paper, world.now),
        Form::Name => format!("{}\n", explanation.state),
        Form::Json | Form::Yaml => document(&explanation, args.output.form)?,
    })?;
    Ok(DONE)
}
