//! The verbs, one file each: what they read, what they write, what they print.

mod abort;
mod adopt;
mod complete;
mod decide;
mod explain;
mod get;
mod lineage;
mod logs;
mod rollback;
mod run;
mod status;
mod verify;
mod watch;

use std::io::Write;

use serde::Serialize;

use crate::args::{Arguments, Form, Lineage, LineageVerb, Verb};
use crate::cluster::Cluster;
use crate::error::{Error, refused};
use crate::paper::Paper;
use crate::words;

/// Exit code of what was done.
pub const DONE: u8 = 0;

/// Does what the arguments ask; the exit code.
pub async fn run(arguments: &Arguments) -> Result<u8, Error> {
    if matches!(arguments.verb, Verb::Reference) {
        print(&crate::reference::markdown(&crate::command_line()))?;
        return Ok(DONE);
    }
    let paper = Paper::of_output(arguments.no_color);
    // Files are checked where there is no cluster.
    if let Verb::Lineage(Lineage {
        verb: Some(LineageVerb::Verify(args)),
        ..
    }) = &arguments.verb
    {
        return verify::run(&arguments.connection, paper, args).await;
    }
    let cluster = Cluster::connect(&arguments.connection).await;
    if let Verb::Complete(args) = &arguments.verb {
        return complete::run(cluster.ok().as_ref(), args).await;
    }
    let cluster = cluster?;
    match &arguments.verb {
        Verb::Get(args) => get::run(&cluster, paper, args).await,
        Verb::Explain(args) => explain::run(&cluster, paper, args).await,
        Verb::Approve(args) => decide::approve(&cluster, paper, args).await,
        Verb::Reject(args) => decide::reject(&cluster, paper, args).await,
        Verb::Run(args) => run::run(&cluster, paper, args).await,
        Verb::Abort(args) => abort::run(&cluster, args).await,
        Verb::Rollback(args) => rollback::run(&cluster, args).await,
        Verb::Adopt(args) => adopt::run(&cluster, args).await,
        Verb::Lineage(args) => lineage::run(&cluster, paper, args).await,
        Verb::Logs(args) => logs::run(&cluster, args).await,
        Verb::Status(args) => status::run(&cluster, args).await,
        Verb::Complete(_) | Verb::Reference => Ok(DONE),
    }
}

/// Writes to the standard output; a reader that has gone away ends it without a word, as for any filter.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Output(error.to_string())),
        _ => Ok(()),
    }
}

/// The value as JSON or YAML.
pub fn document<T: Serialize>(value: &T, form: Form) -> Result<String, Error> {
    let text = match form {
        Form::Yaml => serde_saphyr::to_string(value).map_err(|e| e.to_string()),
        Form::Json | Form::Table | Form::Name => serde_json::to_string_pretty(value).map_err(|e| e.to_string()),
    };
    let text = text.map_err(Error::Output)?;
    Ok(if text.ends_with('\n') {
        text
    } else {
        format!("{text}\n")
    })
}

/// What was written, in the form that was asked for; `sentence` for people.
fn written<K: crate::cluster::Kind>(object: &K, form: Form, sentence: &str) -> Result<(), Error> {
    let name = object.meta().name.clone().unwrap_or_default();
    print(&match form {
        Form::Table => format!("{sentence}\n"),
        Form::Name => format!("{}/{name}\n", crate::cluster::resource::<K>()),
        Form::Json | Form::Yaml => {
            let mut object = object.clone();
            object.meta_mut().managed_fields = None;
            document(&typed(&object)?, form)?
        }
    })
}

/// The object with its apiVersion and kind, which typed answers of the API server lack.
pub fn typed<K: crate::cluster::Kind>(object: &K) -> Result<serde_json::Value, Error> {
    let mut value = serde_json::to_value(object).map_err(|e| Error::Output(e.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".to_owned(), K::api_version(&()).into_owned().into());
        fields.insert("kind".to_owned(), K::kind(&()).into_owned().into());
    }
    Ok(value)
}

/// A length of time in seconds.
fn length(flag: &str, text: &str) -> Result<i64, Error> {
    match words::seconds(text) {
        Some(seconds) => Ok(seconds),
        None => refused(format!(
            "--{flag} {text} is no length of time: write 90s, 10m, 1h30m or 7d"
        )),
    }
}
