//! The files of threat lists: read at the start, and again after each change.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use picket_model::time::Timestamp;
use picket_risk::{InvalidLine, Networks, ThreatList, ThreatLists};

use picket_service_configuration::ThreatListFile;

/// Enough for [`picket_risk::NETWORKS_MAX`] networks.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why a threat list cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ThreatListError {
    /// The file cannot be read.
    #[error("`{}`: cannot read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than any list.
    #[error("`{}`: larger than {FILE_BYTES_MAX} bytes", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// Some lines are not networks.
    #[error("`{}`: {}", file.display(), describe(lines))]
    Lines {
        /// The file.
        file: PathBuf,
        /// The first of them.
        lines: Vec<InvalidLine>,
    },
}

/// The result of reading a changed file.
#[derive(Debug)]
pub(crate) struct ThreatListReload {
    pub(crate) name: String,
    /// The number of its networks; after an error the old list stays in place.
    pub(crate) networks: Result<usize, ThreatListError>,
}

/// The files, each with its size and time when it was read last, by which a change is noticed.
pub(super) struct ThreatFiles(Vec<WatchedFile>);

struct WatchedFile {
    file: ThreatListFile,
    stamp: Option<Stamp>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    changed: SystemTime,
}

impl ThreatFiles {
    /// Reads all of them; one that is broken is a mistake of the configuration.
    pub(super) fn open(files: &[ThreatListFile]) -> Result<(Self, ThreatLists), ThreatListError> {
        let (mut known, mut lists) = (Vec::new(), Vec::new());
        for file in files {
            known.push(WatchedFile {
                file: file.clone(),
                stamp: Stamp::of(&file.file).ok(),
            });
            lists.push(read(file)?);
        }
        Ok((Self(known), ThreatLists(lists)))
    }

    /// Reads the files that have changed, and returns all lists where one was read. A broken one
    /// stays as it was, and is reported once for each change.
    pub(super) fn reload(&mut self, now: &ThreatLists) -> (Option<ThreatLists>, Vec<ThreatListReload>) {
        let mut reloads = Vec::new();
        let mut changed: Option<ThreatLists> = None;
        for (index, known) in self.0.iter_mut().enumerate() {
            // Taken before the file is read: a change in between is found the next time.
            let stamp = Stamp::of(&known.file.file).ok();
            if stamp == known.stamp {
                continue;
            }
            known.stamp = stamp;
            let networks = read(&known.file).map(|list| {
                let networks = list.networks.len();
                let lists = changed.get_or_insert_with(|| now.clone());
                if let Some(old) = lists.0.get_mut(index) {
                    *old = list;
                }
                networks
            });
            reloads.push(ThreatListReload {
                name: known.file.name.clone(),
                networks,
            });
        }
        (changed, reloads)
    }
}

impl Stamp {
    fn of(file: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(file)?;
        Ok(Self {
            bytes: metadata.len(),
            changed: metadata.modified()?,
        })
    }
}

fn read(list: &ThreatListFile) -> Result<ThreatList, ThreatListError> {
    let failed = |source| ThreatListError::Read {
        file: list.file.clone(),
        source,
    };
    let file = File::open(&list.file).map_err(failed)?;
    let changed = file
        .metadata()
        .and_then(|metadata| metadata.modified())
        .map_err(failed)?;
    let mut text = String::new();
    let length = file
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if u64::try_from(length).map_or(true, |length| length > FILE_BYTES_MAX) {
        return Err(ThreatListError::TooLarge {
            file: list.file.clone(),
        });
    }
    let networks = Networks::parse(&text).map_err(|lines| ThreatListError::Lines {
        file: list.file.clone(),
        lines,
    })?;
    let changed_ms = changed.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Ok(ThreatList {
        name: list.name.clone(),
        source: list.file.display().to_string(),
        changed_at: Timestamp::from_ms(u64::try_from(changed_ms).unwrap_or(u64::MAX)),
        networks,
    })
}

fn describe(lines: &[InvalidLine]) -> String {
    let lines: Vec<String> = lines
        .iter()
        .map(|line| match line.number {
            0 => line.problem.clone(),
            _ => line.to_string(),
        })
        .collect();
    lines.join("; ")
}
