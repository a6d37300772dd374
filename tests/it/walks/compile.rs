//! Compiles a schema to strategies: any value of a property that a user may write.
//!
//! What the schema says by type, bounds, choices and patterns is read from it. What it cannot say, such as which names
//! exist, comes from `semantic`; what must fit together is brought together by `mend`.

use proptest::collection::{btree_map, vec};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any};
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::string::string_regex;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use super::mend::mend;
use super::schema::{Path, Step, is_required, keys, patterns};
use super::semantic::semantic;

/// Items of a list that is made anew, at most.
const ITEMS: usize = 3;
/// Characters of a text that nothing bounds further.
const LONG: usize = 40;

/// Chance that can be repeated.
pub struct Chance(TestRunner);

impl Chance {
    /// The same seed gives the same choices.
    pub fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self(TestRunner::new_with_rng(Config::default(), rng))
    }

    /// One value of a strategy.
    pub fn draw<T>(&mut self, strategy: &impl Strategy<Value = T>) -> T {
        strategy
            .new_tree(&mut self.0)
            .expect("the strategy has values")
            .current()
    }

    /// A number below that one.
    pub fn below(&mut self, count: usize) -> usize {
        self.draw(&(0..count))
    }

    /// One of them.
    pub fn choose<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Any value of the property at that place.
pub fn values(at: &Path, node: &Value) -> BoxedStrategy<Value> {
    if let Some(known) = semantic(at) {
        return known;
    }
    if let Some(choices) = node["enum"].as_array() {
        return select(choices.clone()).boxed();
    }
    match node["type"].as_str() {
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("integer") => integers(node),
        Some("string") => texts(node),
        Some("array") => lists(at, node),
        Some("object") if node["additionalProperties"].is_object() => maps(at, node),
        Some("object") => objects(at, node),
        other => panic!("{at}: no strategy for type {other:?}"),
    }
}

/// Within the bounds, and often at them.
fn integers(node: &Value) -> BoxedStrategy<Value> {
    let bound = |key: &str| node[key].as_f64();
    #[expect(clippy::cast_possible_truncation, reason = "bounds in schemas are whole numbers")]
    let low = bound("minimum").map_or(-1_000_000, |n| n as i64);
    #[expect(clippy::cast_possible_truncation, reason = "bounds in schemas are whole numbers")]
    let high = bound("maximum").map_or(1_000_000, |n| n as i64);
    let near = high.min(low.saturating_add(100));
    proptest::prop_oneof![
        6 => low..=near,
        2 => low..=high,
        1 => Just(low),
        1 => Just(high),
    ]
    .prop_map(Value::from)
    .boxed()
}

fn texts(node: &Value) -> BoxedStrategy<Value> {
    let length = |key: &str| node[key].as_u64().and_then(|n| usize::try_from(n).ok());
    let (least, most) = (length("minLength").unwrap_or(0), length("maxLength").unwrap_or(LONG));
    if node["format"] == "date-time" {
        let times = ["2020-01-01T00:00:00Z", "2027-06-30T23:59:59Z", "2199-12-31T00:00:00Z"];
        return select(times.map(Value::from).to_vec()).boxed();
    }
    let pattern = patterns(node).into_iter().next();
    let Some(pattern) = pattern else {
        return proptest::prop_oneof![
            8 => vec(select(('a'..='z').chain(['-', ' ', '.', '0', 'é', '"', '\\']).collect::<Vec<_>>()), least..=most.min(LONG)),
            1 => vec(Just('x'), most),
            1 => vec(Just('x'), least),
        ]
        .prop_map(|all| Value::from(all.into_iter().collect::<String>()))
        .boxed();
    };
    // All patterns of the schemas are anchored; the generator knows no anchors.
    let open = pattern.trim_start_matches('^').trim_end_matches('$');
    let fits = move |text: &String| (least..=most).contains(&text.chars().count());
    string_regex(open)
        .unwrap_or_else(|error| panic!("{pattern}: {error}"))
        .prop_filter("length", fits)
        .prop_map(Value::from)
        .boxed()
}

fn lists(at: &Path, node: &Value) -> BoxedStrategy<Value> {
    let bound = |key: &str| node[key].as_u64().and_then(|n| usize::try_from(n).ok());
    let least = bound("minItems").unwrap_or(0);
    let most = bound("maxItems").unwrap_or(ITEMS).min(least.max(ITEMS));
    let items = vec(values(&at.then(Step::Item), &node["items"]), least..=most);
    let (at, node) = (at.clone(), node.clone());
    items
        .prop_map(move |items| {
            let mut list = Value::Array(distinct(&node, items));
            mend(&at, &mut list, None);
            list
        })
        .prop_filter("enough items", move |list| {
            list.as_array().is_some_and(|l| l.len() >= least)
        })
        .boxed()
}

/// Items that the keys of their list tell apart; the later ones give way.
pub fn distinct(list: &Value, items: Vec<Value>) -> Vec<Value> {
    let keys = keys(list);
    let set = list["x-kubernetes-list-type"] == "set";
    let key = |item: &Value| match keys.as_slice() {
        [] => item.clone(),
        keys => keys.iter().map(|k| item[k].clone()).collect(),
    };
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        if (keys.is_empty() && !set) || kept.iter().all(|other| key(other) != key(&item)) {
            kept.push(item);
        }
    }
    kept
}

fn maps(at: &Path, node: &Value) -> BoxedStrategy<Value> {
    let bound = |key: &str| node[key].as_u64().and_then(|n| usize::try_from(n).ok());
    let least = bound("minProperties").unwrap_or(0);
    let entries = values(&at.then(Step::Entry), &node["additionalProperties"]);
    let names = select(vec!["cpu", "memory", "team", "zone"]);
    btree_map(names, entries, least..=least.max(2))
        .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())
        .prop_map(Value::Object)
        .boxed()
}

fn objects(at: &Path, node: &Value) -> BoxedStrategy<Value> {
    let fields = node["properties"].as_object().cloned().unwrap_or_default();
    let fields: Vec<BoxedStrategy<Option<(String, Value)>>> = fields
        .iter()
        .map(|(name, schema)| {
            let value = values(&at.then(Step::Field(name.clone())), schema);
            let key = name.clone();
            let given = value.prop_map(move |value| (key.clone(), value));
            if is_required(node, name) {
                given.prop_map(Some).boxed()
            } else {
                proptest::option::weighted(0.3, given).boxed()
            }
        })
        .collect();
    let at = at.clone();
    fields
        .prop_map(move |fields| {
            let mut object = Value::Object(fields.into_iter().flatten().collect());
            mend(&at, &mut object, None);
            object
        })
        .boxed()
}

/// The spec with another value at that place. What is missing on the way comes into being.
pub fn set(chance: &mut Chance, schema: &Value, spec: &Value, path: &Path, value: &Value) -> Value {
    let mends = true;
    let mut setter = Setter { chance, value, mends };
    setter.down(&Path::default(), schema, Some(spec), &path.0)
}

/// The same, and what lies beside it stays as it is: for wrong values.
pub fn put(chance: &mut Chance, schema: &Value, spec: &Value, path: &Path, value: &Value) -> Value {
    let mends = false;
    let mut setter = Setter { chance, value, mends };
    setter.down(&Path::default(), schema, Some(spec), &path.0)
}

struct Setter<'a> {
    chance: &'a mut Chance,
    value: &'a Value,
    mends: bool,
}

impl Setter<'_> {
    fn down(&mut self, at: &Path, node: &Value, now: Option<&Value>, rest: &[Step]) -> Value {
        let Some((step, rest)) = rest.split_first() else {
            return self.value.clone();
        };
        let below = at.then(step.clone());
        let now = now.filter(|now| !now.is_null());
        match step {
            Step::Field(name) => {
                let mut object = now.cloned().unwrap_or_else(|| self.least(at, node));
                let child = object.get(name).cloned();
                object[name] = self.down(&below, &node["properties"][name], child.as_ref(), rest);
                if self.mends {
                    mend(at, &mut object, Some(name));
                }
                object
            }
            Step::Item => {
                let mut items = now.and_then(Value::as_array).cloned().unwrap_or_default();
                if items.is_empty() {
                    items.push(self.down(&below, &node["items"], None, rest));
                } else {
                    let index = self.chance.below(items.len());
                    let item = self.down(&below, &node["items"], items.get(index), rest);
                    // It comes first where keys are compared, so that it is another one that gives way.
                    items.remove(index);
                    items.insert(0, item);
                    items = distinct(node, items);
                    let back = index.min(items.len() - 1);
                    items[..=back].rotate_left(1);
                }
                let mut list = Value::Array(items);
                if self.mends {
                    mend(at, &mut list, None);
                }
                list
            }
            Step::Entry => {
                let mut map = now.and_then(Value::as_object).cloned().unwrap_or_default();
                let names: Vec<String> = map.keys().cloned().collect();
                let name = if names.is_empty() {
                    "cpu".to_owned()
                } else {
                    self.chance.choose(&names).clone()
                };
                let child = map.get(&name).cloned();
                let value = self.down(&below, &node["additionalProperties"], child.as_ref(), rest);
                map.insert(name, value);
                Value::Object(map)
            }
        }
    }

    /// An object with what it needs and nothing else.
    fn least(&mut self, at: &Path, node: &Value) -> Value {
        let mut object = json!({});
        for (name, schema) in node["properties"].as_object().into_iter().flatten() {
            if is_required(node, name) {
                object[name] = self.chance.draw(&values(&at.then(Step::Field(name.clone())), schema));
            }
        }
        mend(at, &mut object, None);
        object
    }
}
