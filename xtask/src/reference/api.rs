//! One page per kind: every field with its type and text, and every rule with its message.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::{cell, head};

/// The pages of all kinds, and their index.
pub fn files() -> Result<Vec<(PathBuf, String)>> {
    let folder = Path::new("docs/reference");
    let mut index = head("API reference");
    index.push_str(
        "Group `flywheel.dev`, version `v1alpha1`; every kind is namespaced and in the category `flywheel`.\n",
    );
    index.push_str("The same texts: `kubectl explain flywheelpipeline.spec`.\n\n| Kind | Short | What it is |\n| --- | --- | --- |\n");
    let mut all = Vec::new();
    for crd in flywheel_api::crds() {
        let names = &crd.spec.names;
        let file = format!("{}.md", names.singular.as_deref().unwrap_or(&names.plural));
        let short = names.short_names.clone().unwrap_or_default().join(", ");
        let text = page(&crd)?;
        writeln!(
            index,
            "| [{}]({file}) | {short} | {} |",
            names.kind,
            cell(&describe(&crd)?)
        )?;
        all.push((folder.join(file), text));
    }
    index.push_str("\n## Labels, annotations and finalizers\n\n| Key | What it is |\n| --- | --- |\n");
    index.push_str(&keys(include_str!("../../../crates/api/src/names.rs")));
    all.push((folder.join("api.md"), index));
    Ok(all)
}

fn root(crd: &CustomResourceDefinition) -> Result<&JSONSchemaProps> {
    let version = crd.spec.versions.first().context("a kind without version")?;
    let schema = version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref());
    schema.with_context(|| format!("{} has no schema", crd.spec.names.kind))
}

fn describe(crd: &CustomResourceDefinition) -> Result<String> {
    Ok(root(crd)?.description.clone().unwrap_or_default())
}

fn page(crd: &CustomResourceDefinition) -> Result<String> {
    let names = &crd.spec.names;
    let schema = root(crd)?;
    let mut text = head(&names.kind);
    writeln!(text, "{}\n", describe(crd)?)?;
    write!(text, "`kubectl get {}.{}`", names.plural, crd.spec.group)?;
    columns(crd, &mut text)?;
    for part in ["spec", "status"] {
        let Some(node) = schema.properties.as_ref().and_then(|p| p.get(part)) else {
            continue;
        };
        writeln!(
            text,
            "\n## {part}\n\n{}\n",
            node.description.as_deref().unwrap_or_default()
        )?;
        text.push_str("| Field | Type | What it is |\n| --- | --- | --- |\n");
        fields(part, node, &mut text)?;
    }
    let mut rules = Vec::new();
    messages("", schema, &mut rules);
    if !rules.is_empty() {
        text.push_str("\n## What is refused\n\nThe API server answers with these messages.\n\n| Where | Message |\n| --- | --- |\n");
    }
    for (path, message) in rules {
        writeln!(text, "| {path} | {} |", cell(&message))?;
    }
    Ok(text)
}

fn columns(crd: &CustomResourceDefinition, text: &mut String) -> Result<()> {
    let columns = crd
        .spec
        .versions
        .first()
        .and_then(|v| v.additional_printer_columns.clone());
    text.push_str(" shows:\n\n| Column | Field |\n| --- | --- |\n");
    for column in columns.unwrap_or_default() {
        let wide = if column.priority.unwrap_or(0) > 0 {
            " (with `-o wide`)"
        } else {
            ""
        };
        writeln!(text, "| {}{wide} | `{}` |", column.name, cell(&column.json_path))?;
    }
    Ok(())
}

/// The fields below this one, in the order of the alphabet.
fn fields(path: &str, node: &JSONSchemaProps, text: &mut String) -> Result<()> {
    for (name, child) in node.properties.iter().flatten() {
        let here = format!("{path}.{name}");
        if name == "conditions" && path == "status" {
            writeln!(
                text,
                "| `{here}[]` | list | [Conditions](conditions.md): one entry per type. |"
            )?;
            continue;
        }
        let required = node.required.iter().flatten().any(|r| r == name) && path.starts_with("spec");
        let mark = if required { ", required" } else { "" };
        let description = child.description.as_deref().unwrap_or_default();
        writeln!(text, "| `{here}` | {}{mark} | {} |", kind(child), cell(description))?;
        match (&child.items, &child.additional_properties) {
            (Some(JSONSchemaPropsOrArray::Schema(items)), _) => fields(&format!("{here}[]"), items, text)?,
            (_, Some(JSONSchemaPropsOrBool::Schema(values))) => fields(&format!("{here}.*"), values, text)?,
            _ => fields(&here, child, text)?,
        }
    }
    Ok(())
}

/// The type of a field, for people.
fn kind(node: &JSONSchemaProps) -> String {
    let simple = |node: &JSONSchemaProps| {
        if let Some(values) = &node.enum_ {
            let values = values.iter().filter_map(|v| v.0.as_str());
            return values.map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
        }
        match (node.type_.as_deref(), node.format.as_deref()) {
            (Some("string"), Some("date-time")) => "time".to_owned(),
            (Some(name), _) => name.to_owned(),
            (None, _) => "any".to_owned(),
        }
    };
    match (&node.items, &node.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => format!("list of {}", simple(items)),
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => format!("map of {}", simple(values)),
        _ => simple(node),
    }
}

/// Every rule with its message; the same words at the same field once.
fn messages(path: &str, node: &JSONSchemaProps, found: &mut Vec<(String, String)>) {
    for rule in node.x_kubernetes_validations.iter().flatten() {
        let at = if path.is_empty() {
            "the object".to_owned()
        } else {
            format!("`{path}`")
        };
        let entry = (at, rule.message.clone().unwrap_or_default());
        if !found.contains(&entry) {
            found.push(entry);
        }
    }
    for (name, child) in node.properties.iter().flatten() {
        let here = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        messages(&here, child, found);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &node.items {
        messages(&format!("{path}[]"), items, found);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &node.additional_properties {
        messages(&format!("{path}.*"), values, found);
    }
}

/// The documented constants of the names that are part of the API.
fn keys(source: &str) -> String {
    let mut text = String::new();
    let mut doc = String::new();
    for line in source.lines() {
        if let Some(words) = line.strip_prefix("/// ") {
            doc = format!("{doc} {words}").trim().to_owned();
            continue;
        }
        let value = line.strip_prefix("pub const ").and_then(|l| l.split('"').nth(1));
        if let Some(key) = value.filter(|v| v.starts_with("flywheel.dev/") && *v != "flywheel.dev/v1alpha1") {
            text.push_str(&format!("| `{key}` | {} |\n", cell(&doc)));
        }
        doc.clear();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_every_kind_is_on_its_page() {
        let pages = files().unwrap();
        let pipeline = pages.iter().find(|(p, _)| p.ends_with("flywheelpipeline.md")).unwrap();
        for field in [
            "`spec.stages[].retry.when`",
            "`spec.rollout.checks[].failureLimit`",
            "`status.liveVersion.name`",
        ] {
            assert!(pipeline.1.contains(field), "{field}");
        }
        assert!(pipeline.1.contains("stages needs one stage of type Train"));
    }

    #[test]
    fn keys_stand_with_their_text() {
        let text = keys(
            "/// Label: who\n/// made it.\npub const A: &str = \"flywheel.dev/a\";\n\n/// Other.\npub const B: &str = \"b\";\n",
        );
        assert_eq!(text, "| `flywheel.dev/a` | Label: who made it. |\n");
    }
}
