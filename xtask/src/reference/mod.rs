//! The reference pages, written from the kinds and from the decisions themselves.

mod api;
mod conditions;
mod metrics;
mod text;

use std::path::PathBuf;

use anyhow::Result;

/// Every generated page with its text.
///
/// # Errors
/// If a source cannot be read.
pub fn files() -> Result<Vec<(PathBuf, String)>> {
    let mut all = api::files()?;
    all.push((PathBuf::from("docs/reference/conditions.md"), conditions::page()?));
    all.push((PathBuf::from("docs/reference/metrics.md"), metrics::page()));
    Ok(all)
}

/// First lines of a generated page.
fn head(title: &str) -> String {
    format!("# {title}\n\nGenerated from the code by `cargo xtask generate`.\n\n")
}

/// A text as it may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.trim()
        .replace('|', "\\|")
        .replace(" \n", "<br>")
        .replace('\n', "<br>")
}
