//! What a wrong text is told: in specs, patterns become rules with a sentence.
//!
//! The API server answers a text that misses a `pattern` with the pattern itself, which tells nobody what would be
//! right. Here each known pattern of a spec becomes a CEL rule with the same expression and a message. Statuses keep
//! their patterns: only the operator writes them. Deliberately one table, so that the same mistake is answered with
//! the same words everywhere.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};

use crate::schema::pattern;

/// Each pattern that a spec may use, with what a text must be.
const SENTENCES: [(&str, &str); 18] = [
    (
        pattern::NAME,
        "must be lower case letters, digits and hyphens, begin with a letter and not end with a hyphen, such as week-5",
    ),
    (
        pattern::LABEL,
        "must be lower case letters, digits and hyphens, and neither begin nor end with a hyphen",
    ),
    (
        pattern::SUBDOMAIN,
        "must be the name of an object: lower case letters, digits, hyphens and dots; it and each part between dots begins and ends with a letter or digit",
    ),
    (
        pattern::DECIMAL,
        "must be a decimal number as quoted text, such as \"0.05\" or \"-3\"",
    ),
    (
        pattern::DURATION,
        "must be a duration in hours, minutes and seconds, such as 90s, 10m or 1h30m",
    ),
    (
        pattern::DIGEST,
        "must be a SHA-256 digest: sha256: and 64 digits of 0-9 and a-f",
    ),
    (
        pattern::URI,
        "must be a URI that begins with pvc://, s3://, gs://, az://, https:// or oci://, such as pvc://claim/folder",
    ),
    (
        pattern::PARAMETER,
        "must be letters, digits, dots, hyphens and underscores, and begin with a letter",
    ),
    (
        pattern::VARIABLE,
        "must be the name of an environment variable: letters, digits and underscores, not beginning with a digit",
    ),
    (
        pattern::QUANTITY,
        "must be a Kubernetes quantity without exponent, such as 500m, 2 or 1Gi",
    ),
    (
        pattern::IMAGE,
        "must be a container image without spaces, such as registry.example/eta@sha256:…",
    ),
    (
        pattern::CRON,
        "must be a cron expression of five fields (minute, hour, day of month, month, day of week), such as 0 3 * * 1",
    ),
    (
        pattern::MOUNT_PATH,
        "must be an absolute path without a colon, such as /data",
    ),
    (
        pattern::SUB_PATH,
        "must be a relative path without .., such as models/eta",
    ),
    (
        pattern::LABEL_KEY,
        "must be the key of a label, such as disktype or example.com/disktype",
    ),
    (
        pattern::LABEL_VALUE,
        "must be the value of a label: letters, digits, hyphens, dots and underscores, at most 63, beginning and ending with a letter or digit",
    ),
    (
        pattern::CONFIG_KEY,
        "must be a key of a ConfigMap or Secret: letters, digits, hyphens, dots and underscores",
    ),
    (
        pattern::TIME_ZONE,
        "must be the name of a time zone, such as UTC or Europe/Zurich",
    ),
];

/// What a pattern cannot say without look-ahead, for texts of that pattern: rules with what a text must be.
fn further(expression: &str) -> Vec<(String, &'static str)> {
    if expression != pattern::URI {
        return Vec::new();
    }
    let claim = pattern::SUBDOMAIN.trim_start_matches('^').trim_end_matches('$');
    vec![
        (
            "!self.contains('/..')".to_owned(),
            "must be a URI without .. segments: name the folder itself",
        ),
        (
            format!("!self.startsWith('pvc://') || self.matches(r'^pvc://{claim}(/.*)?$')"),
            "must have the name of a PersistentVolumeClaim behind pvc://: lower case letters, digits, hyphens and dots; it and each part between dots begins and ends with a letter or digit",
        ),
    ]
}

/// Replaces the patterns in this schema and below by rules with sentences.
pub(crate) fn explain(schema: &mut JSONSchemaProps) {
    if let Some((expression, sentence)) = schema.pattern.as_deref().and_then(known) {
        schema.pattern = None;
        let first = (format!("self.matches(r'{expression}')"), sentence);
        let rules = std::iter::once(first).chain(further(expression));
        schema
            .x_kubernetes_validations
            .get_or_insert_default()
            .extend(rules.map(|(rule, sentence)| ValidationRule {
                rule,
                message: Some(sentence.to_owned()),
                ..ValidationRule::default()
            }));
    }
    schema
        .properties
        .iter_mut()
        .flat_map(|p| p.values_mut())
        .for_each(explain);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        explain(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        explain(values);
    }
}

fn known(expression: &str) -> Option<(&'static str, &'static str)> {
    SENTENCES.iter().copied().find(|(known, _)| *known == expression)
}

/// Adds what the schema itself says to the texts of `kubectl explain`: default and limits.
pub(crate) fn spell_out(schema: &mut JSONSchemaProps) {
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        let said = [default(property), limits(property)];
        for sentence in said.into_iter().flatten() {
            let text = property.description.get_or_insert_default();
            text.push('\n');
            text.push_str(&sentence);
        }
        spell_out(property);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut property.items {
            spell_out(items);
        }
    }
}

fn default(schema: &JSONSchemaProps) -> Option<String> {
    match &schema.default.as_ref()?.0 {
        serde_json::Value::String(text) if text.is_empty() => None,
        serde_json::Value::String(text) => Some(format!("Default: {text}.")),
        serde_json::Value::Object(_) | serde_json::Value::Null => None,
        serde_json::Value::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(serde_json::Value::as_str).collect();
            Some(format!("Default: {}.", items.join(", ")))
        }
        other => Some(format!("Default: {other}.")),
    }
}

fn limits(schema: &JSONSchemaProps) -> Option<String> {
    if let (Some(low), Some(high)) = (schema.minimum, schema.maximum) {
        return Some(format!("From {low} to {high}."));
    }
    match (schema.min_items, schema.max_items) {
        (Some(low), Some(high)) if low > 0 => Some(format!("From {low} to {high} entries.")),
        (_, Some(high)) => Some(format!("At most {high} entries.")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_pattern_becomes_a_rule_with_a_sentence() {
        let mut schema = JSONSchemaProps {
            pattern: Some(pattern::DURATION.to_owned()),
            ..JSONSchemaProps::default()
        };
        explain(&mut schema);
        assert_eq!(schema.pattern, None);
        let rule = &schema.x_kubernetes_validations.unwrap()[0];
        assert_eq!(rule.rule, format!("self.matches(r'{}')", pattern::DURATION));
        assert!(rule.message.as_deref().unwrap().contains("1h30m"));
    }

    #[test]
    fn a_claim_in_a_uri_is_named_as_any_object_is() {
        let rules = further(pattern::URI);
        let (rule, _) = &rules[1];
        let name = &pattern::SUBDOMAIN[1..pattern::SUBDOMAIN.len() - 1];
        assert!(rule.contains(&format!("'^pvc://{name}(/.*)?$'")), "{rule}");
        assert!(further(pattern::NAME).is_empty());
    }

    #[test]
    fn no_pattern_holds_a_quote_that_would_end_the_rule() {
        assert!(SENTENCES.iter().all(|(expression, _)| !expression.contains('\'')));
    }

    #[test]
    fn defaults_and_limits_stand_in_the_text() {
        let field = JSONSchemaProps {
            description: Some("Rows.".to_owned()),
            default: Some(
                k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON(serde_json::json!(100)),
            ),
            minimum: Some(1.0),
            maximum: Some(1000.0),
            ..JSONSchemaProps::default()
        };
        let mut schema = JSONSchemaProps {
            properties: Some([("units".to_owned(), field)].into()),
            ..JSONSchemaProps::default()
        };
        spell_out(&mut schema);
        let text = schema.properties.unwrap()["units"].description.clone();
        assert_eq!(text.as_deref(), Some("Rows.\nDefault: 100.\nFrom 1 to 1000."));
    }
}
