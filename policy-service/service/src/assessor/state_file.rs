//! The file with the baselines: replaced as a whole, readable by its owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use picket_risk::{Baseline, PrincipalKey, StateError, read_state, write_state};

/// Habits of people are for nobody else.
const MODE: u32 = 0o600;
const BUFFER_BYTES: usize = 256 * 1024;

/// Reads the saved baselines; a file that does not exist has none.
pub(super) fn read(file: &Path, take: impl FnMut(PrincipalKey, Baseline)) -> Result<(), StateError> {
    match File::open(file) {
        Ok(opened) => read_state(&mut BufReader::with_capacity(BUFFER_BYTES, opened), take),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StateError::Io(error)),
    }
}

/// Writes a new file beside it and renames that: a reader finds the old state or the new one, also
/// after a loss of power.
pub(super) fn write(
    file: &Path,
    shards: impl Iterator<Item = Vec<(PrincipalKey, Baseline)>>,
) -> Result<(), StateError> {
    let beside = beside(file);
    // What is left of a save that was killed; removed rather than written through, as it could be a
    // link.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let written = write_new(&beside, shards).and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        // It is of no use, and the next save removes it as well.
        let _left = fs::remove_file(&beside);
    }
    written?;
    sync_folder(file)?;
    Ok(())
}

fn write_new(file: &Path, shards: impl Iterator<Item = Vec<(PrincipalKey, Baseline)>>) -> io::Result<()> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(MODE).open(file)?;
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, opened);
    write_state(&mut output, shards.flatten())?;
    output.flush()?;
    output.get_ref().sync_all()
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// The rename is durable when the folder is.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
