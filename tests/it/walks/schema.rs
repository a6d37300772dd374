//! The schemas of the kinds, as walks read them: the properties of each spec, and the JSON Schema that says whether a
//! value fits.

use std::fmt;

use flywheel_api::crds;
use serde_json::{Map, Value, json};

/// One way down in a spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A named field.
    Field(String),
    /// Any item of a list.
    Item,
    /// Any value of a map.
    Entry,
}

/// A place in a spec, such as `stages[].image`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if n == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item => write!(f, "[]")?,
                Step::Entry => write!(f, "{{}}")?,
            }
        }
        Ok(())
    }
}

impl Path {
    /// The place below this one.
    pub fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    /// The name of the last field on the way.
    pub fn field(&self) -> &str {
        let names = self.0.iter().rev().filter_map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            Step::Item | Step::Entry => None,
        });
        names.into_iter().next().unwrap_or_default()
    }
}

/// One property of a spec.
#[derive(Clone, Debug)]
pub struct Property {
    pub path: Path,
    pub schema: Value,
    /// It must be there, and has no default.
    pub required: bool,
}

impl Property {
    /// It has no properties of its own.
    pub fn is_leaf(&self) -> bool {
        let of = |node: &Value| node["type"] != "object" && node["type"] != "array";
        of(&self.schema) || self.schema["type"] == "array" && of(&self.schema["items"])
    }
}

/// The schema of the spec of that kind.
pub fn spec(kind: &str) -> Value {
    let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind);
    let crd = crd.unwrap_or_else(|| panic!("{kind} is a kind"));
    let schema = crd.spec.versions[0].schema.as_ref();
    let schema = schema.and_then(|s| s.open_api_v3_schema.clone()).expect("a schema");
    serde_json::to_value(schema).expect("a schema is JSON")["properties"]["spec"].clone()
}

/// All properties of a spec, those of lists and maps included.
pub fn properties(spec: &Value) -> Vec<Property> {
    let mut found = Vec::new();
    descend(&Path::default(), spec, &mut found);
    found
}

fn descend(at: &Path, node: &Value, found: &mut Vec<Property>) {
    for (name, schema) in node["properties"].as_object().into_iter().flatten() {
        let path = at.then(Step::Field(name.clone()));
        found.push(Property {
            path: path.clone(),
            schema: schema.clone(),
            required: is_required(node, name),
        });
        descend(&path, schema, found);
    }
    if node["items"].is_object() {
        descend(&at.then(Step::Item), &node["items"], found);
    }
    if node["additionalProperties"].is_object() {
        let path = at.then(Step::Entry);
        descend(&path, &node["additionalProperties"], found);
    }
}

pub fn is_required(node: &Value, name: &str) -> bool {
    let listed = node["required"]
        .as_array()
        .is_some_and(|all| all.iter().any(|r| r == name));
    listed && node["properties"][name].get("default").is_none()
}

/// The patterns that the rules of a text demand.
pub fn patterns(node: &Value) -> Vec<String> {
    let rules = node["x-kubernetes-validations"].as_array().into_iter().flatten();
    let of_rules = rules.filter_map(|rule| {
        let rule = rule["rule"].as_str()?;
        let pattern = rule.strip_prefix("self.matches(r'")?.strip_suffix("')")?;
        Some(pattern.to_owned())
    });
    let own = node["pattern"].as_str().map(str::to_owned);
    of_rules.chain(own).collect()
}

/// The schema of a property in the words of JSON Schema, so that a validator that knows nothing of Kubernetes judges it.
pub fn in_json_schema(node: &Value) -> Value {
    let mut made = Map::new();
    if let Some(type_) = node["type"].as_str() {
        let null = node["nullable"] == true;
        made.insert(
            "type".to_owned(),
            if null { json!([type_, "null"]) } else { json!(type_) },
        );
    }
    let same = [
        "enum",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
        "format",
    ];
    for key in same {
        if let Some(value) = node.get(key) {
            made.insert(key.to_owned(), value.clone());
        }
    }
    if let (Some(choices), true) = (node["enum"].as_array(), node["nullable"] == true) {
        let choices: Vec<Value> = choices.iter().cloned().chain([Value::Null]).collect();
        made.insert("enum".to_owned(), json!(choices));
    }
    let patterns: Vec<Value> = patterns(node).iter().map(|p| json!({ "pattern": p })).collect();
    if !patterns.is_empty() {
        made.insert("allOf".to_owned(), json!(patterns));
    }
    if let Some(properties) = node["properties"].as_object() {
        let of = properties
            .iter()
            .map(|(name, child)| (name.clone(), in_json_schema(child)));
        made.insert("properties".to_owned(), Value::Object(of.collect()));
        made.insert("additionalProperties".to_owned(), json!(false));
    }
    for key in ["items", "additionalProperties"] {
        if node[key].is_object() {
            made.insert(key.to_owned(), in_json_schema(&node[key]));
        }
    }
    if node["x-kubernetes-list-type"] == "set" {
        made.insert("uniqueItems".to_owned(), json!(true));
    }
    Value::Object(made)
}

/// Who judges values of that schema.
pub fn validator(node: &Value) -> jsonschema::Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .build(&in_json_schema(node))
        .unwrap_or_else(|error| panic!("{node:#}: {error}"))
}

/// Fields that tell the items of a list apart.
pub fn keys(list: &Value) -> Vec<String> {
    let keys = list["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
    keys.filter_map(|key| key.as_str().map(str::to_owned)).collect()
}
