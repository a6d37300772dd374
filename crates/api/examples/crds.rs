//! Prints the CustomResourceDefinitions as a JSON list that `kubectl apply -f -` takes.

fn main() -> Result<(), serde_json::Error> {
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": flywheel_api::crds() });
    serde_json::to_writer_pretty(std::io::stdout(), &list)
}
