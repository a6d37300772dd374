//! Container images without a container engine.
//!
//! An image is one layer: a program, the shared libraries that it needs, the certificates of public
//! authorities, and an account without rights. The same inputs always give the same digest.

mod archive;
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub use self::archive::Config as ImageConfig;
pub use self::tree::Tree;
use crate::cluster::{self, Cluster};
use crate::packages::{self, Packaged};
use crate::{cache, shell};

/// The account that programs run as: no name on any machine, and never root.
const ACCOUNT: u32 = 65532;
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An image that has been built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The full name with its tag, as containerd knows it.
    pub name: String,
    /// The digest, as in `name@sha256:…`.
    pub digest: String,
    /// The archive in the layout of the Open Container Initiative.
    pub archive: PathBuf,
}

impl Image {
    /// The reference that always means exactly this image, as a manifest should name it.
    pub fn reference(&self) -> String {
        format!("{}@{}", archive::repository(&self.name), self.digest)
    }
}

/// What an image holds beside its program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipe {
    /// Arguments that the program always gets.
    pub args: Vec<String>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// Files of this machine and their absolute paths in the image; a folder brings everything below it.
    pub files: Vec<(PathBuf, String)>,
    /// Whether the program reads time zones from files.
    pub zoneinfo: bool,
}

/// Builds an image that runs a program, with extra files at absolute paths.
pub fn build(binary: &Path, name: &str, files: &[(PathBuf, String)]) -> Result<Image> {
    build_with(
        binary,
        name,
        &Recipe {
            files: files.to_vec(),
            ..Recipe::default()
        },
    )
}

/// Builds an image from a recipe.
pub fn build_with(binary: &Path, name: &str, recipe: &Recipe) -> Result<Image> {
    let name = archive::full_name(name)?;
    let program = binary
        .file_name()
        .with_context(|| format!("{} is not a program", binary.display()))?;
    let program = format!("/bin/{}", program.to_string_lossy());
    let mut tree = Tree::default();
    tree.add_program(binary, &program)?;
    for library in libraries(binary)? {
        tree.add_program(&library, &library.to_string_lossy())?;
    }
    for (source, target) in &recipe.files {
        tree.add(source, target)?;
    }
    let config = ImageConfig {
        entrypoint: [vec![program], recipe.args.clone()].concat(),
        env: recipe.env.clone(),
    };
    add_system_files(&mut tree, recipe.zoneinfo)?;
    let archive = archive_of(&name, "")?;
    write(name, tree, &config, archive)
}

/// An image that is made of many files, built once for the same inputs, which `key` names.
pub fn cached(name: &str, key: &str, make: impl FnOnce() -> Result<(Tree, ImageConfig)>) -> Result<Image> {
    let name = archive::full_name(name)?;
    let archive = archive_of(&name, &format!("-{key}"))?;
    let note = archive.with_extension("digest");
    if archive.is_file()
        && let Ok(digest) = fs::read_to_string(&note)
    {
        return Ok(Image { name, digest, archive });
    }
    let (mut tree, config) = make()?;
    add_system_files(&mut tree, false)?;
    let image = write(name, tree, &config, archive)?;
    cache::write(&note, &image.digest)?;
    Ok(image)
}

fn archive_of(name: &str, key: &str) -> Result<PathBuf> {
    let folder = cache::dir()?.join("images");
    cache::create(&folder)?;
    Ok(folder.join(format!("{}{key}.tar", name.replace(['/', ':'], "_"))))
}

fn write(name: String, tree: Tree, config: &ImageConfig, archive: PathBuf) -> Result<Image> {
    let (content, digest) = archive::write(&name, &tree.into_layer()?, config, ACCOUNT)?;
    let unfinished = archive.with_extension(format!("{}.unfinished", std::process::id()));
    cache::write(&unfinished, content)?;
    fs::rename(&unfinished, &archive).with_context(|| format!("cannot create {}", archive.display()))?;
    Ok(Image { name, digest, archive })
}

fn add_system_files(tree: &mut Tree, zoneinfo: bool) -> Result<()> {
    tree.add_folder("/tmp", 0o1777)?;
    tree.add_text(
        "/etc/passwd",
        &format!("nonroot:x:{ACCOUNT}:{ACCOUNT}::/:/sbin/nologin\n"),
    )?;
    tree.add_text("/etc/group", &format!("nonroot:x:{ACCOUNT}:\n"))?;
    tree.add_text("/etc/nsswitch.conf", "hosts: files dns\n")?;
    if !Path::new(CERTIFICATES).exists() {
        packages::ensure(&[Packaged {
            program: "update-ca-certificates",
            package: "ca-certificates",
        }])?;
    }
    tree.add(Path::new(CERTIFICATES), CERTIFICATES)?;
    if zoneinfo {
        tree.add(Path::new("/usr/share/zoneinfo"), "/usr/share/zoneinfo")?;
    }
    Ok(())
}

/// The shared libraries that a program is loaded with, the loader among them; none for a static one.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let output = shell::output(Command::new("ldd").arg(binary).env("LC_ALL", "C"))?;
    let said = shell::said(&output);
    if said.contains("not a dynamic executable") || said.contains("statically linked") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        bail!("`ldd {}` failed: {said}", binary.display());
    }
    parse_ldd(&String::from_utf8_lossy(&output.stdout))
}

fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once(" => not found") {
            bail!("the shared library {name} is not on this machine: install it");
        }
        // "libc.so.6 => /lib/libc.so.6 (0x…)", "/lib64/ld-linux-x86-64.so.2 (0x…)", "linux-vdso.so.1 (0x…)".
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        let path = path.split_once(" (").map_or(path, |(path, _)| path);
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// Gives a cluster an image; its pods then find it by its name and by its reference.
pub fn load(cluster: &Cluster, image: &Image) -> Result<()> {
    import(&cluster.containerd()?, image)
}

/// Gives a cluster an image that it may already have.
pub fn load_once(cluster: &Cluster, image: &Image) -> Result<()> {
    let filter = format!("name=={}", image.reference());
    let mut command = ctr(&cluster.containerd()?)?;
    let known = shell::run(command.args(["images", "list", "--quiet"]).arg(filter))?;
    if known.trim().is_empty() {
        load(cluster, image)?;
    }
    Ok(())
}

/// Gives the containerd behind a socket an image.
pub fn import(socket: &Path, image: &Image) -> Result<()> {
    let mut command = ctr(socket)?;
    command.args(["images", "import"]).arg(&image.archive);
    shell::run(&mut command).with_context(|| format!("cannot load the image {}", image.name))?;
    Ok(())
}

fn ctr(socket: &Path) -> Result<Command> {
    let ctr = packages::path(Packaged {
        program: "ctr",
        package: "containerd",
    })?;
    let mut command = Command::new(ctr);
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io"]);
    Ok(command)
}

/// Builds the images of this repository.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// These images; without a name, all of this repository.
    #[arg(value_enum)]
    which: Vec<Ours>,
    /// Load them into the cluster of this name.
    #[arg(long, value_name = "CLUSTER")]
    load: Option<String>,
}

/// The images of this repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ours {
    /// The operator.
    Operator,
}

impl Ours {
    const ALL: [Self; 1] = [Self::Operator];

    /// Whether this checkout holds the source of the image.
    fn is_here(self) -> bool {
        let manifest = match self {
            Self::Operator => "Cargo.toml",
        };
        cache::workspace().join(manifest).exists()
    }

    /// The package and the program that the image is made of.
    fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Operator => ("flywheel", "flywheel-operator"),
        }
    }
}

/// Runs `cargo xtask image`.
pub fn run(args: Args) -> Result<()> {
    let Args { mut which, load } = args;
    if which.is_empty() {
        which.extend(Ours::ALL.into_iter().filter(|ours| ours.is_here()));
    }
    // A missing cluster is better known before minutes of compiling.
    let cluster = load.map(|name| {
        let found = cluster::find(&name)?;
        found.with_context(|| {
            format!("there is no cluster {name}: bring it up with `cargo xtask cluster up --name {name}`")
        })
    });
    let cluster = cluster.transpose()?;
    for ours in which {
        let image = build_ours(ours)?;
        if let Some(cluster) = &cluster {
            self::load(cluster, &image)?;
        }
        println!("{} {}", image.reference(), image.archive.display());
    }
    Ok(())
}

/// Compiles a program of this repository for production and builds its image, `localhost/<program>:dev`.
pub fn build_ours(ours: Ours) -> Result<Image> {
    let (_, program) = ours.program();
    build(&self::program(ours)?, &format!("localhost/{program}:dev"), &[])
}

/// Compiles a program of this repository for production.
pub fn program(ours: Ours) -> Result<PathBuf> {
    let (package, program) = ours.program();
    compile(package, program)
}

/// Compiles a program of this checkout for production, and says where it is.
pub fn compile(package: &str, program: &str) -> Result<PathBuf> {
    eprintln!("compiling {program} …");
    let mut command = shell::cargo();
    command.current_dir(cache::workspace());
    command.args(["build", "--release", "--locked", "--package", package, "--bin", program]);
    let messages = shell::run(command.arg("--message-format=json-render-diagnostics"))?;
    let artifacts = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built = artifacts.filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from));
    built
        .next_back()
        .with_context(|| format!("cargo built {package} and named no program {program}"))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{build, parse_ldd};

    #[test]
    fn libraries_and_the_loader_are_read_from_ldd() -> anyhow::Result<()> {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(
            parse_ldd(text)?,
            [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld.so.2")]
        );
        Ok(())
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = parse_ldd("\tlibfoo.so.1 => not found\n").map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.contains("libfoo.so.1")));
    }

    #[test]
    fn the_same_inputs_give_the_same_image() -> anyhow::Result<()> {
        let name = format!("localhost/test-{}:1", std::process::id());
        let (one, two) = (
            build(Path::new("/bin/true"), &name, &[])?,
            build(Path::new("/bin/true"), &name, &[])?,
        );
        assert_eq!(one, two);
        assert!(one.reference().contains("@sha256:"));
        Ok(std::fs::remove_file(one.archive)?)
    }
}
