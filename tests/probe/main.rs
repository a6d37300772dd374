//! A stage for tests, which does what its first argument says in the words of the stage contract, and with `serve` the
//! server of the model that it made.
#![allow(clippy::indexing_slicing, reason = "indexing JSON gives null for what is not there")]

mod serve;

use std::{env, fs, process};

use serde_json::{Value, json};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mode = env::args().nth(1).unwrap_or_default();
    if mode == "serve" {
        return Ok(serve::run()?);
    }
    // A second argument keeps the stage busy for that many seconds.
    let busy = env::args().nth(2).map_or(Ok(0), |seconds| seconds.parse())?;
    std::thread::sleep(std::time::Duration::from_secs(busy));
    let file: Value = serde_json::from_str(&fs::read_to_string(env::var("FLYWHEEL_STAGE")?)?)?;
    let result = match mode.as_str() {
        "train" => train(&file)?,
        "evaluate" => evaluate(&file)?,
        "exit" => {
            eprintln!("there are no rows to train on");
            process::exit(3)
        }
        "silent" => return Ok(()),
        "garbage" => "{ \"hello\": ".to_owned(),
        "foreign" => json!({ "apiVersion": file["apiVersion"], "id": "another/attempt/1" }).to_string(),
        "no-model" => json!({ "apiVersion": file["apiVersion"], "id": file["id"] }).to_string(),
        "memory" => hoard(),
        "slow" => {
            std::thread::sleep(std::time::Duration::from_secs(600));
            return Ok(());
        }
        other => return Err(format!("unknown mode {other}").into()),
    };
    fs::write("/dev/termination-log", result)?;
    Ok(())
}

/// The model is the parameter `model`, by which the server then knows what to do, or else the seed.
fn train(file: &Value) -> Result<String, Error> {
    let folder = file["output"]["path"].as_str().ok_or("output.path is missing")?;
    let model = parameter(file, "model").map_or_else(|| file["seed"].to_string(), str::to_owned);
    fs::write(format!("{folder}/model.txt"), model)?;
    let uri = format!("{}/model.txt", file["output"]["uri"].as_str().unwrap_or_default());
    let data = format!("{}/rows.csv", file["output"]["uri"].as_str().unwrap_or_default());
    Ok(json!({
        "apiVersion": file["apiVersion"], "id": file["id"],
        "artifacts": [
            { "name": "model", "type": "Model", "uri": uri, "digest": DIGEST },
            { "name": "rows", "type": "Dataset", "uri": data, "digest": DIGEST, "records": 1000 }
        ],
        "attestations": { "consentFiltered": true, "dropped": [{ "reason": "no-consent", "count": 12 }] }
    })
    .to_string())
}

/// The metric's value is the parameter `error`, so that a test chooses what the gates see; a live version, whose model
/// must be there to be read, has an error of 1 on the same rows.
fn evaluate(file: &Value) -> Result<String, Error> {
    let error: f64 = parameter(file, "error").map_or(Ok(1.0), str::parse)?;
    let mut metric = json!({ "name": "mae", "value": error, "samples": 1000, "low": error - 0.1, "high": error + 0.1, "level": 0.95 });
    let inputs = file["inputs"].as_array().into_iter().flatten();
    if let Some(live) = inputs.into_iter().find(|i| i["role"] == "LiveVersion") {
        fs::read_to_string(live["path"].as_str().ok_or("the live version has no path")?)?;
        let difference = error - 1.0;
        metric["baseline"] = json!({ "version": live["version"], "value": 1.0, "difference": difference,
            "low": difference - 0.05, "high": difference + 0.05 });
    }
    Ok(json!({
        "apiVersion": file["apiVersion"], "id": file["id"],
        "metrics": [metric],
        "groups": [{ "attribute": "region", "metric": "mae", "level": 0.95,
            "columns": ["group", "value", "samples", "low", "high"],
            "rows": [["north", error, 500, error - 0.1, error + 0.1], ["south", error + 0.5, 500, error + 0.4, error + 0.6]] }]
    })
    .to_string())
}

fn parameter<'a>(file: &'a Value, name: &str) -> Option<&'a str> {
    let mut parameters = file["parameters"].as_array().into_iter().flatten();
    parameters.find(|p| p["name"] == name)?["value"].as_str()
}

fn hoard() -> String {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 8 << 20]);
        if all.len() > 4096 {
            return format!("{}", all.len());
        }
    }
}
