//! Where the things are that others build or fetch: Envoy, the module, the binaries.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The module's place under the target folder.
const MODULE: &str = "wasm32-wasip1/wasm/picket_filter.wasm";

/// The files that a stack is made of. Each exists when this value does.
#[derive(Debug, Clone)]
pub struct Places {
    /// The repository.
    pub root: PathBuf,
    /// The Envoy binary: `PICKET_ENVOY`, else `.tools/envoy`.
    pub envoy: PathBuf,
    /// The filter: `PICKET_WASM`, else where `make build` puts it.
    pub module: PathBuf,
    /// The policy service's binary, beside this program or in `PICKET_BIN_DIR`.
    pub policy_service: PathBuf,
    /// The command line, beside it.
    pub picket: PathBuf,
    /// The folder with the example policies.
    pub policies: PathBuf,
}

impl Places {
    /// Looks for everything.
    ///
    /// # Errors
    /// Names the first file that is missing, and the command that makes it.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the crate has no parent folder")?
            .to_owned();
        let envoy = override_or("PICKET_ENVOY", || Ok(root.join(".tools/envoy")))?;
        let module = override_or("PICKET_WASM", || Ok(target_folder()?.join(MODULE)))?;
        let binaries = override_or("PICKET_BIN_DIR", profile_folder)?;
        let policy_service = binaries.join("picket-policy-service");
        let picket = binaries.join("picket");
        let policies = root.join("policy-service/policies");
        existing(&envoy, "Envoy", "make tools")?;
        existing(&module, "the filter's module", "make build")?;
        existing(&policy_service, "the policy service", "make build")?;
        existing(&picket, "the command line", "make build")?;
        existing(
            &policies,
            "the folder of example policies",
            "git checkout policy-service/policies",
        )?;
        Ok(Self {
            root,
            envoy,
            module,
            policy_service,
            picket,
            policies,
        })
    }
}

fn override_or(variable: &str, default: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    env::var_os(variable).map_or_else(default, |value| Ok(PathBuf::from(value)))
}

fn existing(path: &Path, what: &str, command: &str) -> Result<()> {
    ensure!(
        path.exists(),
        "{what} is missing: there is no `{}`. Run `{command}` first (`make test` and `make demo` do).",
        path.display()
    );
    Ok(())
}

/// `target/debug`, of which this program is in a sub-folder (tests) or which it is in (the demo).
fn profile_folder() -> Result<PathBuf> {
    let program = env::current_exe().context("this program does not know where it is")?;
    let folder = program.parent().context("this program is in no folder")?;
    let folder = if folder.ends_with("deps") {
        folder.parent().context("the `deps` folder is in no folder")?
    } else {
        folder
    };
    Ok(folder.to_owned())
}

fn target_folder() -> Result<PathBuf> {
    let profile = profile_folder()?;
    let target = profile.parent().context("the profile's folder is in no folder")?;
    Ok(target.to_owned())
}
