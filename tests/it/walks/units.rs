//! The compiler by itself, without a cluster: what it says is right is right, and what it says is wrong is wrong.

use serde_json::{Value, json};

use super::KINDS;
use super::compile::{Chance, set, values};
use super::schema::{Path, properties, spec, validator};
use super::semantic::unused;
use super::wrong::wrongs;

/// Values of each property.
const VALUES: usize = 40;

#[test]
fn cluster_walk_every_value_that_is_made_fits_the_schema() {
    let mut chance = Chance::new(1);
    let mut count = 0;
    for kind in KINDS {
        for property in properties(&spec(kind)) {
            let judge = validator(&property.schema);
            let all = values(&property.path, &property.schema);
            for _ in 0..VALUES {
                let value = chance.draw(&all);
                if let Err(error) = judge.validate(&value) {
                    panic!("{kind} {}: {value:#}: {error}", property.path);
                }
                count += 1;
            }
        }
    }
    println!("{count} values");
}

#[test]
fn cluster_walk_every_property_of_every_kind_can_be_reached() {
    let mut chance = Chance::new(2);
    for kind in KINDS {
        let schema = spec(kind);
        let judge = validator(&schema);
        let whole = values(&Path::default(), &schema);
        let (mut start, mut leaves) = (chance.draw(&whole), 0);
        for property in properties(&schema) {
            let value = chance.draw(&values(&property.path, &property.schema));
            let changed = set(&mut chance, &schema, &start, &property.path, &value);
            if let Err(error) = judge.validate(&changed) {
                panic!("{kind} {}: {changed:#}: {error}", property.path);
            }
            let there = at(&changed, &property.path.to_string());
            assert!(
                there.contains(&&value),
                "{kind} {}: {value} is not in {changed:#}",
                property.path
            );
            leaves += usize::from(property.is_leaf());
            start = changed;
        }
        println!("{kind}: {leaves} leaves");
        assert!(leaves > 5, "{kind} has {leaves} leaves");
    }
}

/// All values at a path such as `stages[].image`.
fn at<'a>(spec: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![spec];
    for part in path.split('.') {
        let name = part.trim_end_matches(['[', ']', '{', '}']);
        found = found.into_iter().filter_map(|value| value.get(name)).collect();
        for _ in 0..part.matches(['[', '{']).count() {
            let below = |value: &'a Value| match value {
                Value::Array(items) => items.iter().collect::<Vec<_>>(),
                Value::Object(map) => map.values().collect(),
                _ => Vec::new(),
            };
            found = found.into_iter().flat_map(below).collect();
        }
    }
    found
}

#[test]
fn cluster_walk_every_property_has_wrong_values_and_none_of_them_fits() {
    let mut count = 0;
    for kind in KINDS {
        for property in properties(&spec(kind)) {
            let judge = validator(&property.schema);
            let all = wrongs(&property);
            assert!(!all.is_empty(), "{kind} {}: nothing is wrong", property.path);
            for wrong in all.iter().filter(|w| w.what != "the same key twice") {
                assert!(
                    !judge.is_valid(&wrong.value),
                    "{kind} {}: {wrong:?} fits",
                    property.path
                );
            }
            count += all.len();
        }
    }
    println!("{count} wrong values");
}

#[test]
fn cluster_walk_what_is_known_beyond_the_schemas_belongs_to_properties() {
    let paths = |kind: &&str| properties(&spec(kind)).into_iter().map(|p| p.path).collect::<Vec<_>>();
    let all: Vec<Path> = KINDS.iter().flat_map(paths).collect();
    assert_eq!(unused(&all), Vec::<&str>::new());
}

#[test]
fn cluster_walk_the_same_seed_gives_the_same_values() {
    let schema = spec("FlywheelPipeline");
    let draw = |seed| Chance::new(seed).draw(&values(&Path::default(), &schema));
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

#[test]
fn cluster_walk_neighbours_give_way_to_what_was_set() {
    let schema = spec("FlywheelPipeline");
    let mut chance = Chance::new(3);
    let spec = json!({ "stages": [{ "name": "train", "type": "Train", "image": "a" }],
        "gates": [{ "name": "error", "metric": "mae", "max": "5" }] });
    let path = |text: &str| {
        let found = properties(&schema).into_iter().find(|p| p.path.to_string() == text);
        found.expect("a property").path
    };
    let gate = set(
        &mut chance,
        &schema,
        &spec,
        &path("gates[].compareTo"),
        &json!("LiveVersion"),
    );
    assert_eq!(gate["gates"][0]["max"], Value::Null);
    assert_eq!(gate["gates"][0]["direction"], "Minimize");
    let stages = set(&mut chance, &schema, &spec, &path("stages[].type"), &json!("Custom"));
    let types: Vec<&Value> = at(&stages, "stages[].type");
    assert_eq!(types, ["Train", "Custom", "Evaluate"]);
}
