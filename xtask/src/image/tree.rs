//! The files of an image, in an order and with attributes that do not depend on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Files and folders by their absolute path in the image.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    Folder { mode: u32 },
    File { mode: u32, content: Vec<u8> },
}

impl Tree {
    /// Adds a file or, with everything below it, a folder; symbolic links become what they point to.
    pub fn add(&mut self, source: &Path, target: &str) -> Result<()> {
        let context = || format!("cannot read {}", source.display());
        let metadata = fs::metadata(source).with_context(context)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(source).with_context(context)? {
                let entry = entry.with_context(context)?;
                let target = format!(
                    "{}/{}",
                    target.trim_end_matches('/'),
                    entry.file_name().to_string_lossy()
                );
                self.add(&entry.path(), &target)?;
            }
            return Ok(());
        }
        let mode = if metadata.permissions().mode() & 0o111 == 0 {
            0o644
        } else {
            0o755
        };
        self.insert(
            target,
            Entry::File {
                mode,
                content: fs::read(source).with_context(context)?,
            },
        )
    }

    /// Adds a program or a library.
    pub fn add_program(&mut self, source: &Path, target: &str) -> Result<()> {
        let content = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        self.insert(target, Entry::File { mode: 0o755, content })
    }

    /// Adds a file with a text.
    pub fn add_text(&mut self, target: &str, text: &str) -> Result<()> {
        self.insert(
            target,
            Entry::File {
                mode: 0o644,
                content: text.as_bytes().to_vec(),
            },
        )
    }

    /// Adds an empty folder.
    pub fn add_folder(&mut self, target: &str, mode: u32) -> Result<()> {
        self.insert(target, Entry::Folder { mode })
    }

    fn insert(&mut self, target: &str, entry: Entry) -> Result<()> {
        if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
            bail!("`{target}` is not a place in an image: write an absolute path without `..`");
        }
        let mut parent = target;
        while let Some((above, _)) = parent.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
            self.entries
                .entry(above.to_owned())
                .or_insert(Entry::Folder { mode: 0o755 });
            parent = above;
        }
        self.entries.insert(target.to_owned(), entry);
        Ok(())
    }

    /// The layer that holds the files.
    pub fn into_layer(self) -> Result<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        for (path, entry) in self.entries {
            let (kind, mode, content) = match entry {
                Entry::Folder { mode } => (tar::EntryType::Directory, mode, Vec::new()),
                Entry::File { mode, content } => (tar::EntryType::Regular, mode, content),
            };
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_mtime(0);
            header.set_size(content.len() as u64);
            let name = path.trim_start_matches('/');
            layer
                .append_data(&mut header, name, content.as_slice())
                .with_context(|| format!("cannot put {path} into the image"))?;
        }
        layer.into_inner().context("cannot finish the layer of the image")
    }
}
