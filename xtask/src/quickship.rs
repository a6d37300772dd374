//! The example `examples/quickship`: its interpreter, its data and its image.
//!
//! The interpreter comes from Debian packages, the libraries from the wheels that `requirements.txt` pins by their
//! hashes. The same files run on this machine as plain processes and in the cluster as an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::image::{self, Image, ImageConfig, Tree};
use crate::{cache, debian, shell};

/// Python with the shared libraries that it and the wheels load.
const PACKAGES: [&str; 15] = [
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "libgomp1",
    "zlib1g",
    "libexpat1",
    "libssl3",
    "libffi8",
    "libbz2-1.0",
    "liblzma5",
    "libcrypt1",
    "libuuid1",
];
/// Installs the wheels; not part of the image.
const INSTALLER: &str = "python3-pip-whl";
const PYTHON: &str = "usr/bin/python3.11";
/// The npm package with the flights, and the file in it.
const FLIGHTS: (&str, &str) = ("vega-datasets@3.2.1", "package/data/flights-3m.parquet");
/// Where the image holds the flights.
const FLIGHTS_IN_IMAGE: &str = "/usr/share/quickship/flights-3m.parquet";
/// Folders of the wheels that no program of ours loads: tests, headers, and Arrow's network protocols.
const UNUSED: [&str; 6] = ["tests", "include", "bin", "libarrow_flight", "_flight", "__pycache__"];

/// The interpreter with everything that the example imports.
#[derive(Debug, Clone)]
pub struct Runtime {
    root: PathBuf,
    site: PathBuf,
}

/// The folder of the example.
pub fn folder() -> PathBuf {
    cache::workspace().join("examples/quickship")
}

impl Runtime {
    /// Downloads what is missing.
    pub fn prepare() -> Result<Self> {
        let root = debian::root_of(&PACKAGES)?;
        let requirements = folder().join("requirements.txt");
        let pinned =
            fs::read_to_string(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
        let wheels = debian::once("wheels", &[&pinned, &PACKAGES.join(" "), &UNUSED.join(" ")], |site| {
            let installer = installer()?;
            let bare = Self {
                root: root.clone(),
                site: installer,
            };
            let mut pip = bare.python();
            pip.args(["-m", "pip", "install", "--quiet", "--no-compile", "--require-hashes"])
                .args(["--only-binary", ":all:", "--root-user-action", "ignore", "--target"])
                .arg(site)
                .arg("--requirement")
                .arg(&requirements);
            shell::run(&mut pip)?;
            prune(site)?;
            bare.compile(site)
        })?;
        Ok(Self { root, site: wheels })
    }

    /// The example's program as a plain process on this machine.
    pub fn quickship(&self) -> Command {
        let mut command = self.python();
        command.args(["-m", "quickship"]);
        command
    }

    /// The interpreter; it finds the wheels and the checkout's own source.
    pub fn python(&self) -> Command {
        let library = |folder: &str| self.root.join(folder).join(triplet());
        let libraries = [library("lib"), library("usr/lib")].map(|path| path.display().to_string());
        let mut command = Command::new(library("lib").join(loader()));
        command
            .arg("--library-path")
            .arg(libraries.join(":"))
            .arg(self.root.join(PYTHON))
            .env("PYTHONHOME", self.root.join("usr"))
            .env("PYTHONPATH", format!("{}:{}", self.site.display(), folder().display()))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("OMP_NUM_THREADS", "1");
        command
    }

    /// The root of the image is read-only, so that what is not compiled now would be compiled at every start.
    fn compile(&self, folder: &Path) -> Result<()> {
        let mut command = self.python();
        command.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s"]);
        shell::run(command.arg(folder).arg(folder)).map(drop)
    }

    /// Runs the example's own tests and returns what they said.
    pub fn test(&self) -> Result<String> {
        let mut command = self.python();
        command.current_dir(folder()).args(["-m", "unittest", "-b"]);
        let output = shell::output(&mut command)?;
        if !output.status.success() {
            bail!("the tests of examples/quickship failed: {}", shell::said(&output));
        }
        Ok(shell::said(&output))
    }

    /// The image; built again only when its inputs change.
    pub fn image(&self, name: &str) -> Result<Image> {
        let flights = flights()?;
        let source = source_text()?;
        let inputs = [
            name,
            &source,
            &self.root.to_string_lossy(),
            &self.site.to_string_lossy(),
        ];
        image::cached(name, &debian::digest(&inputs), || {
            let mut tree = Tree::default();
            add(&mut tree, &self.root, &self.root, "")?;
            add(&mut tree, &self.site, &self.site, "/opt/quickship")?;
            let code = cache::dir()?.join(format!("quickship-{}", std::process::id()));
            cache::create(&code)?;
            for (file, text) in sources()? {
                cache::write(&code.join(file), text)?;
            }
            self.compile(&code)?;
            add(&mut tree, &code, &code, "/opt/quickship/quickship")?;
            debian::remove(&code)?;
            tree.add(&flights, FLIGHTS_IN_IMAGE)?;
            Ok((tree, config()))
        })
    }
}

fn config() -> ImageConfig {
    let env = [
        ("PYTHONPATH", "/opt/quickship"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("OMP_NUM_THREADS", "1"),
    ];
    ImageConfig {
        entrypoint: ["/usr/bin/python3.11", "-m", "quickship"].map(str::to_owned).to_vec(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

/// The real flights, from the npm package that holds them.
pub fn flights() -> Result<PathBuf> {
    let (package, file) = FLIGHTS;
    let folder = debian::once("flights", &[package], |folder| {
        let Some(npm) = shell::find("npm") else {
            bail!("npm is needed to get the flights of {package}: install the Debian package npm");
        };
        let packed = shell::run(
            Command::new(npm)
                .current_dir(folder)
                .args(["pack", "--silent", package]),
        )?;
        let archive = folder.join(packed.lines().last().unwrap_or_default().trim());
        shell::run(
            Command::new("tar")
                .current_dir(folder)
                .arg("-xzf")
                .arg(&archive)
                .arg(file),
        )?;
        debian::remove(&archive)
    })?;
    Ok(folder.join(file))
}

/// The weeks of arrivals, made by the example's own `prepare`.
pub fn arrivals(runtime: &Runtime) -> Result<PathBuf> {
    let source = source_text()?;
    debian::once("arrivals", &[&source, FLIGHTS.0], |folder| {
        let mut command = runtime.quickship();
        command
            .arg("prepare")
            .arg("--source")
            .arg(flights()?)
            .arg("--into")
            .arg(folder);
        shell::run(&mut command).map(drop)
    })
}

/// The wheel of pip, as something that Python can import from.
fn installer() -> Result<PathBuf> {
    let wheels = debian::root_of(&[INSTALLER])?.join("usr/share/python-wheels");
    let entries = fs::read_dir(&wheels).with_context(|| format!("cannot read {}", wheels.display()))?;
    let mut found = entries.flatten().map(|entry| entry.path());
    found
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("pip-"))
        })
        .with_context(|| format!("the Debian package {INSTALLER} holds no wheel of pip"))
}

fn prune(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if UNUSED.iter().any(|unused| {
            let more = name.strip_prefix(unused);
            more.is_some_and(|rest| rest.is_empty() || (rest.starts_with('.') && unused.contains('_')))
        }) {
            debian::remove(&path)?;
        } else if path.is_dir() {
            prune(&path)?;
        }
    }
    Ok(())
}

/// Adds a folder; links are followed as if it were the root.
fn add(tree: &mut Tree, root: &Path, source: &Path, target: &str) -> Result<()> {
    for entry in fs::read_dir(source).with_context(|| format!("cannot read {}", source.display()))? {
        let path = entry?.path();
        let target = format!("{target}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        let real = debian::inside(root, &path)?.unwrap_or_else(|| path.clone());
        if real.is_dir() {
            add(tree, root, &real, &target)?;
        } else if real.is_file() {
            tree.add(&real, &target)?;
        }
    }
    Ok(())
}

/// The example's own modules by their names.
fn sources() -> Result<Vec<(String, String)>> {
    let folder = folder().join("quickship");
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            all.push((name, text));
        }
    }
    all.sort();
    Ok(all)
}

fn source_text() -> Result<String> {
    Ok(sources()?
        .into_iter()
        .map(|(name, text)| format!("{name}\n{text}\n"))
        .collect())
}

/// Debian's name for the processor of this machine.
fn triplet() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

fn loader() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "ld-linux-aarch64.so.1",
        _ => "ld-linux-x86-64.so.2",
    }
}
