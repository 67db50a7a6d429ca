//! `[policies]`.

use deserr::{Deserr, ValuePointerRef};
use jiff::tz::TimeZone;
use picket_model::problems::Problems;

use super::fields::{Directory, TimeZoneName};
use super::{PolicySettings, PolicySource};

/// The policies.
#[derive(Debug, Deserr)]
#[deserr(deny_unknown_fields, error = Problems, validate = source_and_directory_agree -> Problems)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(deny_unknown_fields, title = "Policies")
)]
pub(super) struct PoliciesSection {
    /// Where the policies are.
    #[deserr(default = Source::Folder)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "folder")))]
    source: Source,
    /// The folder of the policies: `*.cedar`, and optionally `entities.json` and
    /// `schema.cedarschema`. It is read at the start; a mistake ends the start. Required with
    /// `source = "folder"`, and a mistake with `"store"`.
    #[deserr(default)]
    directory: Option<Directory>,
    /// The time zone of clock and calendar in `context.time`.
    #[deserr(default = TimeZoneName(TimeZone::UTC))]
    #[cfg_attr(feature = "schema", schemars(extend("default" = "UTC")))]
    time_zone: TimeZoneName,
}

/// Where the policies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[deserr(rename_all = lowercase)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename_all = "lowercase"))]
enum Source {
    /// In `policies.directory`.
    Folder,
    /// In `storage`, as numbered revisions.
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
