//! The pages of `docs/reference`, each written from what the code itself says.

use std::path::Path;

pub mod filter;
pub mod keys;
pub mod markdown;
pub mod service;

mod command_line;
mod limits;
mod metrics;
mod reasons;

/// A page of the reference.
#[derive(Debug)]
pub struct Page {
    /// Its file in `docs/reference`.
    pub file: &'static str,
    /// Its text.
    pub text: String,
}

impl Page {
    /// `source` is what to edit in place of the page.
    fn new(file: &'static str, title: &str, source: &str, introduction: &str, body: &str) -> Self {
        let source = markdown::wrapped(&format!(
            "Written by `make reference` from {source}. Edit the code, not this page."
        ));
        let introduction = markdown::wrapped(introduction);
        let text = format!(
            "<!--\n{source}-->\n\n# {title}\n\n{introduction}\n{}\n",
            body.trim_end()
        );
        Self { file, text }
    }

    /// Whether the folder has this page as it is.
    #[must_use]
    pub fn is_in(&self, folder: &Path) -> bool {
        std::fs::read_to_string(folder.join(self.file)).is_ok_and(|text| text == self.text)
    }
}

/// Every page of the reference.
///
/// # Errors
/// What the code says cannot be shown, such as a key without an explanation.
pub fn pages() -> anyhow::Result<Vec<Page>> {
    Ok(vec![
        filter::page()?,
        service::page()?,
        reasons::page(),
        metrics::page()?,
        command_line::page(),
        limits::page()?,
    ])
}
