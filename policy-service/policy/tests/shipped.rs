//! The policies that are shipped: they pass their own tests, which try all of them.
//!
//! `cfg(test)` is always set here; it tells clippy that the helpers are tests too.

#[cfg(test)]
mod shipped {
    use std::path::{Path, PathBuf};

    use picket_policy::TESTS_FOLDER;
    use picket_policy::testing;

    fn policies() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
    }

    /// The examples that an operator can start from.
    fn examples() -> Vec<PathBuf> {
        let entries = std::fs::read_dir(policies().join("examples")).unwrap();
        let mut folders: Vec<PathBuf> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        folders.sort();
        assert!(!folders.is_empty());
        folders
    }

    /// Every folder of policies that is shipped.
    fn folders() -> Vec<PathBuf> {
        [vec![policies()], examples()].concat()
    }

    #[test]
    fn all_pass_their_own_tests_which_try_every_policy_and_condition() {
        for folder in folders() {
            let shown = folder.display();
            let engine = picket_policy::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(engine.warnings(), [], "{shown}");
            let files = testing::read_cases(&folder.join(TESTS_FOLDER)).unwrap_or_else(|errors| panic!("{errors}"));
            let report = testing::run(&engine, &files).unwrap();
            let failed: Vec<_> = report
                .files
                .iter()
                .flat_map(|file| &file.cases)
                .filter(|case| !case.is_passed())
                .collect();
            assert!(failed.is_empty(), "{shown}: {failed:#?}");
            assert!(report.passed > 0, "{shown}: no case");
            let untried: Vec<_> = report
                .coverage
                .policies
                .iter()
                .filter(|one| one.seen() < one.total())
                .collect();
            assert!(untried.is_empty(), "{shown}: not tried: {untried:#?}");
            assert_eq!(report.coverage.percent, 100);
        }
    }

    #[test]
    fn their_matrix_is_the_one_that_was_reviewed() {
        for folder in folders() {
            let engine = picket_policy::load(&folder).unwrap_or_else(|errors| panic!("{errors}"));
            let matrix = testing::read_matrix(&folder.join(testing::MATRIX_FILE));
            let now = matrix
                .unwrap_or_else(|errors| panic!("{errors}"))
                .evaluate(&engine)
                .to_string();
            let reviewed = std::fs::read_to_string(folder.join("matrix.txt")).unwrap_or_default();
            let short = folder.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display();
            assert!(
                now == reviewed,
                "the policies decide otherwise than {short}/matrix.txt says. If that is meant, renew and review it:\n  \
                 picket policy matrix policy-service/{short} > policy-service/{short}/matrix.txt\n\n{now}"
            );
        }
    }

    #[test]
    fn tests_are_no_part_of_the_revision() {
        for folder in folders() {
            let alone = tempfile::tempdir().unwrap();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    std::fs::copy(entry.path(), alone.path().join(entry.file_name())).unwrap();
                }
            }
            let revision = |folder: &Path| picket_policy::load(folder).unwrap().revision().to_owned();
            assert_eq!(revision(&folder), revision(alone.path()));
        }
    }
}
