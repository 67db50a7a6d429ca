//! The files of a folder of policies, in memory: from a folder, or from the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::errors::{Mistakes, PolicyErrors};

/// How many policy files a folder may hold, and how many files of tests.
pub const FILES_MAX: usize = 1000;
/// How large each file may be.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How large all of them may be together, tests included: a revision is stored, sent and held in
/// memory as a whole.
pub const FILES_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The size of a message with a revision: its files, their names, and what gRPC adds to each.
pub const REVISION_MESSAGE_BYTES_MAX: usize = FILES_BYTES_MAX + 1024 * 1024;
pub(super) const SCHEMA_FILE: &str = "schema.cedarschema";
pub(super) const ENTITIES_FILE: &str = "entities.json";
pub(super) const POLICY_EXTENSION: &str = "cedar";
/// The folder beside the policies that holds their tests.
pub const TESTS_FOLDER: &str = "tests";
const TEST_EXTENSIONS: [&str; 2] = ["yaml", "yml"];
/// No file system takes longer names.
const NAME_BYTES_MAX: usize = 255;

/// `*.cedar` and, if there, `entities.json` and `schema.cedarschema`, with the files in `tests`.
/// INVARIANT: none leads out of the folder that it is written into, and all are within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFiles {
    /// Where they are, for mistakes: a folder, or the name of a revision.
    origin: PathBuf,
    /// Texts by name.
    policies: BTreeMap<String, String>,
    /// Texts by name in the folder `tests`.
    tests: BTreeMap<String, String>,
}

/// The kinds of files.
enum Kind {
    Policies,
    Tests,
}

impl PolicyFiles {
    /// Reads a folder, with its tests if there are some.
    ///
    /// # Errors
    /// Every file that cannot be read or exceeds a limit.
    pub fn read(directory: &Path) -> Result<Self, PolicyErrors> {
        let mut found = Mistakes::default();
        let mut files = Self::empty(directory);
        files.policies = read_folder(directory, &is_policy_file, &mut found);
        let tests = directory.join(TESTS_FOLDER);
        if tests.symlink_metadata().is_ok() {
            files.tests = read_folder(&tests, &|name| is_test_file(Path::new(name)), &mut found);
        }
        files.within_limits(&mut found);
        found.none_or(files)
    }

    /// Reads a folder without its tests, as far as it can be read.
    pub(super) fn read_policies(directory: &Path, found: &mut Mistakes) -> Self {
        let mut files = Self::empty(directory);
        files.policies = read_folder(directory, &is_policy_file, found);
        files.within_limits(found);
        files
    }

    /// Takes files by their names; those of tests begin with `tests/`.
    ///
    /// # Errors
    /// A name that is none of these files', is there twice or leads elsewhere, or a limit.
    pub fn of(origin: &Path, files: impl IntoIterator<Item = (String, String)>) -> Result<Self, PolicyErrors> {
        let mut found = Mistakes::default();
        let mut taken = Self::empty(origin);
        for (count, (name, text)) in files.into_iter().enumerate() {
            if count >= 2 * FILES_MAX {
                found.add(
                    origin,
                    None,
                    format!("more than {FILES_MAX} policy files and as many of tests"),
                );
                break;
            }
            let Some((kind, own_name)) = kind_of(&name) else {
                let expected = format!("`{SCHEMA_FILE}`, `{ENTITIES_FILE}`, `*.{POLICY_EXTENSION}` or `tests/*.yaml`");
                found.add(origin, None, format!("`{}`: expected {expected}", name.escape_debug()));
                continue;
            };
            let of_kind = match kind {
                Kind::Policies => &mut taken.policies,
                Kind::Tests => &mut taken.tests,
            };
            if of_kind.insert(own_name.to_owned(), text).is_some() {
                found.add(&origin.join(&name), None, "it is there twice");
            }
        }
        taken.within_limits(&mut found);
        found.none_or(taken)
    }

    /// Where they are.
    #[must_use]
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// The text of a policy file.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.policies.get(name).map(String::as_str)
    }

    /// The policy files by name.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.policies)
    }

    /// The files of tests, each with the path by which mistakes in it are told.
    #[must_use]
    pub fn tests(&self) -> Vec<(PathBuf, &str)> {
        let folder = self.origin.join(TESTS_FOLDER);
        pairs(&self.tests)
            .map(|(name, text)| (folder.join(name), text))
            .collect()
    }

    /// All names and texts, as [`Self::of`] takes them.
    pub fn iter(&self) -> impl Iterator<Item = (String, &str)> {
        let policies = pairs(&self.policies).map(|(name, text)| (name.to_owned(), text));
        let in_folder = |name: &str| format!("{}/{name}", TESTS_FOLDER);
        policies.chain(pairs(&self.tests).map(move |(name, text)| (in_folder(name), text)))
    }

    /// Whether another one holds the same, wherever it is.
    #[must_use]
    pub fn has_same_content(&self, other: &Self) -> bool {
        self.policies == other.policies && self.tests == other.tests
    }

    fn empty(origin: &Path) -> Self {
        Self {
            origin: origin.to_owned(),
            policies: BTreeMap::new(),
            tests: BTreeMap::new(),
        }
    }

    fn within_limits(&self, found: &mut Mistakes) {
        for (files, what) in [(&self.policies, ""), (&self.tests, " of tests")] {
            if files.len() > FILES_MAX {
                found.add(&self.origin, None, format!("more than {FILES_MAX} files{what}"));
            }
        }
        for (name, text) in self.iter() {
            if u64::try_from(text.len()).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
                found.add(&self.origin.join(&name), None, too_large());
            }
            // PostgreSQL takes no text with it, and no file of these needs it.
            if text.contains('\0') {
                found.add(&self.origin.join(&name), None, "it holds a NUL character");
            }
        }
        let bytes: usize = self.iter().map(|(_, text)| text.len()).sum();
        if bytes > FILES_BYTES_MAX {
            let message = format!("all files together are larger than {FILES_BYTES_MAX} bytes");
            found.add(&self.origin, None, message);
        }
    }
}

fn pairs(files: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    files.iter().map(|(name, text)| (name.as_str(), text.as_str()))
}

fn kind_of(name: &str) -> Option<(Kind, &str)> {
    let (kind, own_name) = match name.split_once('/') {
        Some((TESTS_FOLDER, own_name)) => (Kind::Tests, own_name),
        Some(_) => return None,
        None => (Kind::Policies, name),
    };
    let is_plain = |c: char| !c.is_control() && c != '/' && c != '\\';
    let is_name = own_name.len() <= NAME_BYTES_MAX && !own_name.starts_with('.') && own_name.chars().all(is_plain);
    let is_of_kind = match kind {
        Kind::Policies => is_policy_file(own_name),
        Kind::Tests => is_test_file(Path::new(own_name)),
    };
    (is_name && is_of_kind).then_some((kind, own_name))
}

fn is_policy_file(name: &str) -> bool {
    let extension = Path::new(name).extension();
    name == SCHEMA_FILE || name == ENTITIES_FILE || extension.is_some_and(|extension| extension == POLICY_EXTENSION)
}

/// Whether a file of this name holds test cases.
pub(crate) fn is_test_file(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| TEST_EXTENSIONS.contains(&extension))
}

fn read_folder(directory: &Path, is_wanted: &dyn Fn(&str) -> bool, found: &mut Mistakes) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            found.add(directory, None, format!("cannot read the folder: {error}"));
            return files;
        }
    };
    let mut bytes: usize = 0;
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                found.add(directory, None, format!("cannot read the folder: {error}"));
                continue;
            }
        };
        let Some(name) = path.file_name() else {
            continue;
        };
        let lossy = name.to_string_lossy().into_owned();
        // Two names could be one text, and a policy would be missing.
        let Some(name) = name.to_str().map(str::to_owned) else {
            if is_wanted(&lossy) {
                found.add(&path, None, "its name is not UTF-8");
            }
            continue;
        };
        // What is over the limits is told of the whole; no more than that is read.
        if !is_wanted(&name) || files.len() > FILES_MAX || bytes > FILES_BYTES_MAX {
            continue;
        }
        match read_file(&path) {
            Ok(text) => {
                bytes += text.len();
                files.insert(name, text);
            }
            Err(message) => found.add(&path, None, message),
        }
    }
    files
}

fn read_file(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path)
        .map_err(|error| format!("cannot read: {error}"))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(too_large());
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot read: {error}"))
}

fn too_large() -> String {
    format!("larger than {FILE_BYTES_MAX} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Result<PolicyFiles, PolicyErrors> {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        PolicyFiles::of(Path::new("origin"), files)
    }

    #[test]
    fn names_that_lead_elsewhere_or_are_of_other_files_are_refused() {
        for name in [
            "",
            ".cedar",
            ".hidden.cedar",
            "../a.cedar",
            "/a.cedar",
            "a/b.cedar",
            "a\\b.cedar",
            "a\n.cedar",
            "tests/../a.yaml",
            "tests/a/b.yaml",
            "tests/.a.yaml",
            "tests/a.cedar",
            "tests/",
            "a.yaml",
            "README.md",
            &format!("{}.cedar", "a".repeat(250)),
        ] {
            let errors = of(&[(name, "")]).unwrap_err();
            assert_eq!(errors.as_slice().len(), 1, "{name}: {errors}");
            assert!(errors.to_string().contains("expected `schema.cedarschema`"), "{errors}");
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_refused_and_not_taken_for_another() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        for byte in [0xfe, 0xff] {
            let name = [byte, b'.', b'c', b'e', b'd', b'a', b'r'];
            std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(&name)), "").unwrap();
        }
        let errors = PolicyFiles::read(folder.path()).unwrap_err();
        assert_eq!(errors.as_slice().len(), 2, "{errors}");
        assert!(errors.to_string().contains("its name is not UTF-8"), "{errors}");
    }

    #[test]
    fn what_is_taken_is_given_back_and_read_from_a_folder_alike() {
        let given = [
            ("a.cedar", "A"),
            ("entities.json", "E"),
            ("schema.cedarschema", "S"),
            ("tests/a.yaml", "T"),
            ("tests/b.yml", "U"),
        ];
        let files = of(&given).unwrap();
        let back: Vec<_> = files.iter().collect();
        let back: Vec<_> = back.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        assert_eq!(back, given);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tests")).unwrap();
        for (name, text) in given.iter().chain(&[("matrix.yaml", "no part of them")]) {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let read = PolicyFiles::read(folder.path()).unwrap();
        assert!(read.has_same_content(&files));
        let without = PolicyFiles::read_policies(folder.path(), &mut Mistakes::default());
        assert!(!without.has_same_content(&files));
        assert_eq!(without.iter().count(), 3);
    }

    #[test]
    fn limits_hold_for_each_file_and_all_together() {
        let large = "x".repeat(1024 * 1024 + 1);
        let errors = of(&[("a.cedar", &large)]).unwrap_err().to_string();
        assert!(errors.contains("origin/a.cedar: larger than 1048576 bytes"), "{errors}");
        let large = "x".repeat(1024 * 1024);
        let names: Vec<String> = (0..9).map(|number| format!("{number}.cedar")).collect();
        let nine: Vec<_> = names.iter().map(|name| (name.as_str(), large.as_str())).collect();
        let errors = of(&nine).unwrap_err().to_string();
        assert!(
            errors.contains("all files together are larger than 8388608 bytes"),
            "{errors}"
        );
        assert!(of(&nine[..8]).is_ok());
        let names: Vec<String> = (0..1001).map(|number| format!("tests/{number}.yaml")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        let errors = of(&many).unwrap_err().to_string();
        assert!(errors.contains("more than 1000 files of tests"), "{errors}");
        let errors = of(&[("a.cedar", "a\0b")]).unwrap_err().to_string();
        assert!(errors.contains("NUL"), "{errors}");
        assert!(
            of(&[("a.cedar", ""), ("a.cedar", "")])
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
    }
}
