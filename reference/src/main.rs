//! `picket-reference`: writes the pages of `docs/reference`, or says which of them differ from the code.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;

/// Write the pages of the reference from the code
#[derive(Parser)]
struct Arguments {
    /// Write nothing, and fail where a page differs from the code
    #[arg(long)]
    check: bool,
    /// The folder of the pages
    #[arg(long, value_name = "FOLDER", default_value = "docs/reference")]
    folder: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Arguments { check, folder } = Arguments::parse();
    let pages = picket_reference::pages()?;
    let different: Vec<_> = pages.iter().filter(|page| !page.is_in(&folder)).collect();
    if check && let Some(page) = different.first() {
        let (file, number) = (folder.join(page.file), different.len());
        bail!(
            "{number} pages differ from the code, `{}` among them: make reference",
            file.display()
        );
    }
    for page in different {
        let file = folder.join(page.file);
        std::fs::write(&file, &page.text).with_context(|| format!("cannot write `{}`", file.display()))?;
    }
    Ok(())
}
