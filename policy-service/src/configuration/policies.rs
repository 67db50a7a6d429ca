//! `[policies]`.

use deserr::{Deserr, ValuePointerRef};
use jiff::tz::TimeZone;
use picket_model::problems::Problems;

use super::fields::{Directory, TimeZoneName};
use super::{PolicySettings, PolicySource};

#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = source_and_directory_agree -> Problems)]
pub(super) struct PoliciesSection {
    #[deserr(default = Source::Folder)]
    source: Source,
    #[deserr(default)]
    directory: Option<Directory>,
    #[deserr(default = TimeZoneName(TimeZone::UTC))]
    time_zone: TimeZoneName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[deserr(rename_all = lowercase)]
enum Source {
    Folder,
    Store,
}

impl PoliciesSection {
    pub(super) fn are_stored(&self) -> bool {
        self.source == Source::Store
    }
}

impl From<PoliciesSection> for PolicySettings {
    fn from(section: PoliciesSection) -> Self {
        Self {
            source: section
                .directory
                .map_or(PolicySource::Store, |directory| PolicySource::Folder(directory.0)),
            time_zone: section.time_zone.0,
        }
    }
}

/// There is a folder, or the store.
fn source_and_directory_agree(
    section: PoliciesSection,
    _location: ValuePointerRef<'_>,
) -> Result<PoliciesSection, Problems> {
    let mut problems = Problems::default();
    match (section.source, &section.directory) {
        (Source::Folder, None) => problems.add("policies.directory", "is required where `source` is `folder`"),
        (Source::Store, Some(_)) => problems.add("policies.directory", "is for `source = \"folder\"`"),
        (Source::Folder, Some(_)) | (Source::Store, None) => {}
    }
    problems.none_or(Some(section))
}
