//! Value types with a schema of their own: decimal numbers, durations, digests, URIs.
//!
//! They are strings on the wire, because Kubernetes APIs carry no floats, and bounded by a pattern so that
//! the API server refuses what the engine could not read.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Patterns of texts; [`crate::remedy`] has a sentence for each.
pub(crate) mod pattern {
    /// A name that the user chooses inside an object.
    pub const NAME: &str = r"^[a-z]([a-z0-9-]*[a-z0-9])?$";
    /// A DNS label.
    pub const LABEL: &str = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
    /// The name of an object: a DNS subdomain.
    pub const SUBDOMAIN: &str = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$";
    /// A decimal number.
    pub const DECIMAL: &str = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?$";
    /// A duration.
    pub const DURATION: &str = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$";
    /// A SHA-256 digest.
    pub const DIGEST: &str = r"^sha256:[0-9a-f]{64}$";
    /// A URI.
    pub const URI: &str = r"^(pvc|s3|gs|az|https|oci)://[A-Za-z0-9][A-Za-z0-9._:@/+=-]*$";
    /// The name of a parameter.
    pub const PARAMETER: &str = r"^[A-Za-z][A-Za-z0-9_.-]*$";
    /// The name of an environment variable.
    pub const VARIABLE: &str = r"^[A-Za-z_][A-Za-z0-9_]*$";
    /// A Kubernetes quantity without exponent.
    pub const QUANTITY: &str = r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?)?$";
    /// A container image.
    pub const IMAGE: &str = r"^[^\s]+$";
    /// A cron expression.
    pub const CRON: &str = r"^\S+(\s+\S+){4}$";
    /// Where a volume appears.
    pub const MOUNT_PATH: &str = r"^/[^:]*$";
    /// A path inside a volume; RE2 has no look-ahead, so `..` is excluded segment by segment.
    pub const SUB_PATH: &str = r"^([^/.]|\.[^/.]|\.\.[^/])[^/]*(/([^/.]|\.[^/.]|\.\.[^/])[^/]*)*/?$";
    /// The key of a label.
    pub const LABEL_KEY: &str = r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$";
    /// The value of a label.
    pub const LABEL_VALUE: &str = r"^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$";
    /// A key of a ConfigMap or Secret.
    pub const CONFIG_KEY: &str = r"^[-._a-zA-Z0-9]+$";
    /// The name of a time zone.
    pub const TIME_ZONE: &str = r"^[A-Za-z][A-Za-z0-9_+/-]*$";
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $pattern:expr, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text as written by the user.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "maxLength": $max })
            }
        }
    };
}

text_type!(
    /// A decimal number as text, such as `0.05` or `-3`.
    Decimal,
    pattern::DECIMAL,
    32
);
text_type!(
    /// A duration of hours, minutes and seconds, such as `10m` or `1h30m`.
    Duration,
    pattern::DURATION,
    24
);
text_type!(
    /// A SHA-256 digest: `sha256:` and 64 hexadecimal digits.
    Digest,
    pattern::DIGEST,
    71
);
text_type!(
    /// Where something lies: `pvc://claim/path`, `s3://`, `gs://`, `az://`, `https://` or `oci://`.
    Uri,
    pattern::URI,
    1024
);

impl Decimal {
    /// The number, or nothing if the text is none (the API server refuses such texts).
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.0.parse().ok().filter(|v: &f64| v.is_finite())
    }

    /// The text for a measured number; nothing for NaN, infinities and numbers of more than 15 digits.
    ///
    /// Six digits after the point, and more for small numbers until seven digits count, up to the twelve that the
    /// pattern allows. What is smaller still becomes 0.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        if !value.is_finite() || value.abs() >= 1e15 {
            return None;
        }
        let enough = |digits: &u8| value.abs() * 10_f64.powi(i32::from(*digits)) >= 1e6;
        let digits = usize::from((6..12).find(enough).unwrap_or(12));
        let text = format!("{value:.digits$}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        Some(Self(if text == "-0" || text.is_empty() {
            "0".to_owned()
        } else {
            text.to_owned()
        }))
    }
}

impl Duration {
    /// Length in seconds; an empty or unreadable text is nothing.
    #[must_use]
    pub fn seconds(&self) -> Option<i64> {
        let mut total: i64 = 0;
        let mut digits = String::new();
        if self.0.is_empty() {
            return None;
        }
        for c in self.0.chars() {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            let unit = match c {
                'h' => 3600,
                'm' => 60,
                's' => 1,
                _ => return None,
            };
            let count: i64 = digits.parse().ok()?;
            total = total.checked_add(count.checked_mul(unit)?)?;
            digits.clear();
        }
        digits.is_empty().then_some(total)
    }
}

impl Uri {
    /// Claim name and path (without leading slash) of a `pvc://` URI.
    #[must_use]
    pub fn claim(&self) -> Option<(&str, &str)> {
        let rest = self.0.strip_prefix("pvc://")?;
        Some(rest.split_once('/').unwrap_or((rest, "")))
    }

    /// This URI with `path` appended as further segments.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        Self(format!(
            "{}/{}",
            self.0.trim_end_matches('/'),
            path.trim_start_matches('/')
        ))
    }
}

/// Schema of an optional choice: the derive would give it the text of its type instead of the field's own.
pub(crate) fn choice<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = T::json_schema(generator);
    schema.remove("description");
    schema
}

/// Schema of a status' condition list: a list-map by type, bounded.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    let items = generator.subschema_for::<Condition>();
    json_schema!({
        "type": "array", "maxItems": 16, "items": items,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "description": "What is so right now, one entry per type. \nReady sums up; Reconciling and Stalled stand only while they are true."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_their_units() {
        assert_eq!(Duration::from("1h30m").seconds(), Some(5400));
        assert_eq!(Duration::from("45s").seconds(), Some(45));
        assert_eq!(Duration::from("").seconds(), None);
        assert_eq!(Duration::from("10").seconds(), None);
        assert_eq!(Duration::from("5d").seconds(), None);
    }

    #[test]
    fn decimals_are_rounded_and_drop_zeros() {
        assert_eq!(Decimal::from_f64(12.5), Some("12.5".into()));
        assert_eq!(Decimal::from_f64(17.083_333_333), Some("17.083333".into()));
        assert_eq!(Decimal::from_f64(0.1 + 0.2), Some("0.3".into()));
        assert_eq!(Decimal::from_f64(0.0), Some("0".into()));
        assert_eq!(Decimal::from_f64(3.0), Some("3".into()));
        assert_eq!(Decimal::from_f64(f64::NAN), None);
    }

    #[test]
    fn small_decimals_keep_seven_digits_within_the_twelve_of_the_pattern() {
        assert_eq!(Decimal::from_f64(-0.000_000_1), Some("-0.0000001".into()));
        assert_eq!(Decimal::from_f64(0.012_345_678_9), Some("0.01234568".into()));
        assert_eq!(Decimal::from_f64(4.9e-7), Some("0.00000049".into()));
        assert_eq!(Decimal::from_f64(1e-12), Some("0.000000000001".into()));
        assert_eq!(Decimal::from_f64(-1e-13), Some("0".into()));
    }

    #[test]
    fn claim_uris_split_into_claim_and_path() {
        assert_eq!(Uri::from("pvc://data/a/b").claim(), Some(("data", "a/b")));
        assert_eq!(Uri::from("pvc://data").claim(), Some(("data", "")));
        assert_eq!(Uri::from("s3://bucket/a").claim(), None);
        assert_eq!(Uri::from("pvc://data/").join("/x").as_str(), "pvc://data/x");
    }
}
