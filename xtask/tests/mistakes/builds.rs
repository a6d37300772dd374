//! Nobody gets an operator that can be told to make a mistake.

use std::process::Command;

#[test]
fn no_program_that_users_get_has_mistakes_in_it() {
    for package in ["flywheel", "flywheel-cli"] {
        // What `cargo build` of the package would compile: its development dependencies are not among it.
        let mut tree = Command::new(env!("CARGO"));
        tree.args(["tree", "--offline", "--locked", "--package", package]);
        tree.args(["--edges", "normal,build,features", "--prefix", "none"]);
        let output = tree
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(
            told.contains("flywheel-engine feature \"default\""),
            "{package} has no engine"
        );
        assert!(
            !told.contains("flywheel-engine feature \"testing\""),
            "{package} has the worlds of tests"
        );
    }
}
