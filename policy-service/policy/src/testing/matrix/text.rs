//! A matrix as a text to be reviewed.

use std::fmt;

use super::{CellDecision, MatrixCell, MatrixReport, MatrixTable};

impl CellDecision {
    fn word(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Challenge => "challenge",
            Self::Forbid => "forbid",
            Self::None => "-",
            Self::Error => "error",
        }
    }
}

/// The legend above the tables, so that a snapshot explains itself.
const LEGEND: &str = "\
permit: a policy permits; forbid: a policy forbids; -: none permits; challenge: permitted after a stronger authentication; \
error: a policy fails\n";

impl fmt::Display for MatrixReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LEGEND)?;
        self.tables.iter().try_for_each(|table| write!(f, "\n{table}"))
    }
}

impl fmt::Display for MatrixTable<MatrixCell> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.resource, self.description)?;
        let names = self.rows.iter().map(|row| row.principal.chars().count());
        let name_chars = names.max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.methods.len()).map(|column| self.width(column)).collect();
        let methods = self.methods.iter().map(String::as_str);
        writeln!(f, "{}", line("", name_chars, methods, &widths))?;
        self.rows.iter().try_for_each(|row| {
            let words = row.cells.iter().map(|cell| cell.verdict.word());
            writeln!(f, "{}", line(&row.principal, name_chars, words, &widths))
        })
    }
}

impl MatrixTable<MatrixCell> {
    /// How wide a column is. None is narrower than the word that is there most, so that few changes
    /// change the others.
    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.cells.get(column));
        let words = cells.map(|cell| cell.verdict.word().len());
        let method = self.methods.get(column).map(|method| method.chars().count());
        words
            .chain(method)
            .max()
            .unwrap_or(0)
            .max(CellDecision::Permit.word().len())
    }
}

/// A name, and a word below each method; it does not end with a space.
fn line<'a>(name: &str, name_chars: usize, words: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let mut line = format!("  {name:name_chars$}");
    for (word, width) in words.zip(widths) {
        line.push_str(&format!("  {word:width$}"));
    }
    line.trim_end().to_owned()
}
