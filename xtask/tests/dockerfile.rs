#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs)]

//! The rules of the Dockerfile. It is not built here: that needs a container engine.

use xtask::cache;

fn text(name: &str) -> String {
    std::fs::read_to_string(cache::workspace().join(name)).unwrap()
}

#[test]
fn the_last_stage_holds_only_what_was_put_together_and_runs_without_rights() {
    let file = text("Dockerfile");
    let (build, last) = file.rsplit_once("\nFROM ").expect("two stages");
    let lines: Vec<&str> = last.lines().collect();
    assert_eq!(
        lines,
        [
            "scratch",
            "COPY --from=build /image/ /",
            "USER 65532:65532",
            "ENTRYPOINT [\"/bin/flywheel-operator\"]"
        ]
    );
    assert!(build.contains("cargo build --release --locked --package flywheel --bin flywheel-operator"));
    // The same account, certificates and libraries as in the image that `cargo xtask image` builds.
    for part in [
        "nonroot:x:65532:65532",
        "ca-certificates.crt",
        "ldd ",
        "mode=1777 /image/tmp",
    ] {
        assert!(build.contains(part), "{part}");
    }
}

#[test]
fn the_toolchain_is_the_pinned_one_and_no_base_floats() {
    let toolchain = text("rust-toolchain.toml");
    for line in text("Dockerfile").lines().filter_map(|l| l.strip_prefix("FROM ")) {
        let image = line.split(' ').next().unwrap_or_default();
        let Some((_, tag)) = image.split_once(':') else {
            assert_eq!(image, "scratch");
            continue;
        };
        let version = tag.split('-').next().unwrap_or_default();
        assert!(
            toolchain.contains(version),
            "{image} is not the toolchain of rust-toolchain.toml"
        );
    }
}

#[test]
fn what_the_build_needs_is_sent_and_nothing_else() {
    let ignored = text(".dockerignore");
    assert!(ignored.starts_with("*\n"), "everything is left out that is not named");
    let manifest = text("Cargo.toml");
    let members = manifest.lines().find(|l| l.starts_with("members")).expect("members");
    let folders = members.split('"').filter(|m| m.contains("crates/") || *m == "xtask");
    for folder in folders {
        let top = folder.split('/').next().unwrap_or_default();
        assert!(ignored.contains(&format!("\n!{top}\n")), "{folder}");
    }
    for path in manifest.lines().filter_map(|l| l.strip_prefix("path = \"")) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        assert!(ignored.contains(&format!("\n!{folder}\n")), "{path}");
    }
}
