//! What came out of policy tests as JUnit XML, which systems of continuous integration read.

use std::fmt::Write as _;

use picket_policy::testing::{CaseReport, FileReport, TestReport};

use super::Problem;

const NAME: &str = "picket policy test";

/// The whole document. A file of cases is a suite; what keeps the cases from being run, or is wrong beside them, is an error in
/// a suite of its own, so that nobody takes it for a success.
pub(crate) fn document(report: Option<&TestReport>, problems: &[Problem]) -> String {
    let files: &[FileReport] = report.map_or(&[], |report| &report.files);
    let (passed, failed) = report.map_or((0, 0), |report| (report.passed, report.failed));
    let errors = problems.len();
    // Writing to a String cannot fail.
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let counts = counts(passed + failed + errors, failed, errors);
    let _ = writeln!(xml, "<testsuites name=\"{NAME}\" {counts}>");
    for file in files {
        add_suite(&mut xml, file);
    }
    if errors > 0 {
        add_problems(&mut xml, problems);
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn add_suite(xml: &mut String, file: &FileReport) {
    let name = escaped(&file.file.to_string_lossy());
    let failed = file.cases.iter().filter(|case| !case.is_passed()).count();
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{name}\" {}>",
        counts(file.cases.len(), failed, 0)
    );
    for case in &file.cases {
        add_case(xml, &name, case);
    }
    xml.push_str("  </testsuite>\n");
}

fn add_case(xml: &mut String, suite: &str, case: &CaseReport) {
    let _ = write!(
        xml,
        "    <testcase classname=\"{suite}\" name=\"{}\"",
        escaped(&case.name)
    );
    if case.is_passed() {
        xml.push_str("/>\n");
        return;
    }
    let lines: Vec<String> = case.mismatches.iter().map(ToString::to_string).collect();
    let message = escaped(&lines.join("; "));
    let _ = writeln!(
        xml,
        ">\n      <failure message=\"{message}\">{}</failure>\n    </testcase>",
        escaped(&lines.join("\n"))
    );
}

fn add_problems(xml: &mut String, problems: &[Problem]) {
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{NAME}\" {}>",
        counts(problems.len(), 0, problems.len())
    );
    for (index, problem) in problems.iter().enumerate() {
        let _ = writeln!(
            xml,
            "    <testcase classname=\"{NAME}\" name=\"problem {}\">\n      <error message=\"{}\"/>\n    </testcase>",
            index + 1,
            escaped(&problem.to_string())
        );
    }
    xml.push_str("  </testsuite>\n");
}

fn counts(tests: usize, failures: usize, errors: usize) -> String {
    format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\"")
}

/// A text as it can stand in an attribute and in an element. What XML 1.0 §2.2 has no place for becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_name_holds_ends_its_attribute() {
        assert_eq!(
            escaped("a\"b<c>&'\u{1b}\n\u{ffff}é"),
            "a&quot;b&lt;c&gt;&amp;'\u{fffd}&#10;\u{fffd}é"
        );
    }

    #[test]
    fn what_kept_the_cases_from_being_run_is_an_error() {
        let message = "no <case>".to_owned();
        let xml = document(None, &[Problem::Demand { message }]);
        assert!(xml.contains("<testsuites name=\"picket policy test\" tests=\"1\" failures=\"0\" errors=\"1\""));
        assert!(xml.contains("<error message=\"no &lt;case&gt;\"/>"), "{xml}");
    }
}
