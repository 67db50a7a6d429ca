//! Names in policies that no request can have, each with the nearest one that a request can have.
//!
//! The strict validator refuses names that the schema does not have, with a suggestion of its own.
//! What it takes in silence is an attribute behind `has`, a type behind `is`, and a group of
//! actions behind `==`: they are false for every request. Roles are not in the schema: they come
//! from tokens.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};

use cedar_policy::pst::{ActionConstraint, BinaryOp, Clause, Expr, Literal, Var};
use cedar_policy::{EntityUid, Policy, PolicySet, Schema, ValidationMode, ValidationWarning, Validator};
use picket_model::device::DeviceState;
use picket_model::risk::RiskLevel;
use picket_risk::Signal;

use super::compared::parts;
use super::model::METHODS;
use super::schema;
use super::source::File;
use super::syntax::body_of;

/// How many different conditions are validated for a folder: a revision is checked while others
/// wait. What is over this is taken for possible.
const CONDITIONS_MAX: usize = 1_000;

/// The entity type of roles.
const ROLE: &str = "Picket::Role";

/// A name that no request can have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImpossibleName {
    /// As the policy has it.
    pub(super) name: String,
    /// The warning.
    pub(super) message: String,
}

/// The names that requests of a schema can have.
pub(super) struct PossibleRequests<'s> {
    validator: Validator,
    own_schema: Option<&'s File>,
    /// The names of all attributes in the schema, once they are asked for.
    attributes: OnceCell<BTreeSet<String>>,
    /// Policies ask for the same things.
    known: RefCell<HashMap<String, bool>>,
}

impl<'s> PossibleRequests<'s> {
    pub(super) fn new(schema: &Schema, own_schema: Option<&'s File>) -> Self {
        Self {
            validator: Validator::new(schema.clone()),
            own_schema,
            attributes: OnceCell::new(),
            known: RefCell::default(),
        }
    }

    /// The names in a policy, which the strict validator has accepted, that no request has.
    pub(super) fn impossible_in(&self, policy: &Policy) -> Vec<ImpossibleName> {
        let mut found = Vec::new();
        let body = body_of(policy);
        if let Some(ActionConstraint::Eq(action)) = body.as_ref().map(|body| &body.action) {
            found.extend(self.action(action.to_string()));
        }
        for clause in body.iter().flat_map(cedar_policy::pst::Template::clauses) {
            let (Clause::When(expression) | Clause::Unless(expression)) = clause;
            self.walk(expression, &mut found);
        }
        found
    }

    fn walk(&self, expression: &Expr, found: &mut Vec<ImpossibleName>) {
        if let Expr::HasAttr { expr, attrs } = expression {
            let names = attrs.iter().map(std::ops::Deref::deref);
            found.extend(path_of(expr).and_then(|path| self.attribute(path, names)));
        } else if let Expr::Is { expr, entity_type, .. } = expression {
            let is_request = matches!(**expr, Expr::Var(Var::Principal | Var::Resource));
            let condition = format!("{expr} is {entity_type}");
            if is_request && !self.can_be_true(&condition) {
                let message = format!("`{condition}` is true of no request");
                let name = entity_type.to_string();
                found.push(ImpossibleName { name, message });
            }
        } else if let Expr::BinaryOp { op, left, right } = expression {
            found.extend(compared_to_action(*op, left, right).filter_map(|action| self.action(action.to_string())));
            found.extend(compared_to_text(*op, left, right).filter_map(|(path, text)| value(&path, text)));
        }
        for part in parts(expression).into_iter().flatten() {
            self.walk(part, found);
        }
    }

    /// The first attribute on the way that no request has.
    fn attribute<'e>(
        &self,
        (variable, mut names): (&'static str, Vec<&'e str>),
        more: impl Iterator<Item = &'e str>,
    ) -> Option<ImpossibleName> {
        names.extend(more);
        for (index, name) in names.iter().enumerate() {
            let before = names.get(..index).unwrap_or_default();
            if self.can_be_true(&has(variable, before, name)) {
                continue;
            }
            let attributes = self.attributes.get_or_init(|| schema::attribute_names(self.own_schema));
            let mut near = nearest(name, attributes.iter().map(String::as_str));
            let suggestion = near.find(|other| self.can_be_true(&has(variable, before, other)));
            let owner = std::iter::once(variable).chain(before.iter().copied());
            let owner = owner.collect::<Vec<_>>().join(".");
            let message = format!("`{owner}` never has the attribute `{name}`{}", did_you_mean(suggestion));
            let name = (*name).to_owned();
            return Some(ImpossibleName { name, message });
        }
        None
    }

    fn action(&self, name: String) -> Option<ImpossibleName> {
        let message =
            format!("no request has the action `{name}`, which is a group: `action in {name}` names its members");
        (!self.can_be_true(&format!("action == {name}"))).then_some(ImpossibleName { name, message })
    }

    /// Whether a condition is true of some request, as far as the validator can say.
    fn can_be_true(&self, condition: &str) -> bool {
        let known = self.known.borrow().get(condition).copied();
        known.unwrap_or_else(|| {
            let can_be_true = self.known.borrow().len() >= CONDITIONS_MAX || self.validate(condition);
            self.known.borrow_mut().insert(condition.to_owned(), can_be_true);
            can_be_true
        })
    }

    fn validate(&self, condition: &str) -> bool {
        let policy = format!("permit (principal, action, resource) when {{ {condition} }};");
        let Ok(policy) = policy.parse::<PolicySet>() else {
            return true;
        };
        let result = self.validator.validate(&policy, ValidationMode::Strict);
        let is_impossible = |warning: &ValidationWarning| matches!(warning, ValidationWarning::ImpossiblePolicy(_));
        result.validation_errors().next().is_some() || !result.validation_warnings().any(is_impossible)
    }
}

/// The values of an attribute of the context, where they are known beforehand, and whether there
/// can be others.
fn values_of(path: &[&str]) -> Option<(Vec<&'static str>, bool)> {
    match path {
        ["risk", "level"] => Some((RiskLevel::ALL.map(RiskLevel::name).to_vec(), false)),
        ["risk", "signals"] => Some((Signal::ALL.iter().map(|signal| signal.name()).collect(), false)),
        ["device", "state"] => Some((DeviceState::ALL.map(DeviceState::as_str).to_vec(), false)),
        ["method"] => Some((METHODS.to_vec(), true)),
        _ => None,
    }
}

/// A value of the context that no request has.
fn value(path: &[&str], text: &str) -> Option<ImpossibleName> {
    let (values, are_open) = values_of(path)?;
    let suggestion = nearest(text, values.iter().copied()).next();
    if values.contains(&text) || (are_open && suggestion.is_none()) {
        return None;
    }
    let attribute = path.join(".");
    let message = format!("`context.{attribute}` is never `{text}`{}", did_you_mean(suggestion));
    let name = text.to_owned();
    Some(ImpossibleName { name, message })
}

/// The texts that an attribute of the context is compared with.
fn compared_to_text<'e>(
    op: BinaryOp,
    left: &'e Expr,
    right: &'e Expr,
) -> impl Iterator<Item = (Vec<&'e str>, &'e str)> {
    let path = |expression| path_of(expression).filter(|(variable, _)| *variable == "context");
    let (owner, texts): (&Expr, Vec<&Expr>) = match (op, left, right) {
        (BinaryOp::Eq | BinaryOp::NotEq, text @ Expr::Literal(_), owner) => (owner, vec![text]),
        (BinaryOp::Eq | BinaryOp::NotEq | BinaryOp::Contains, owner @ Expr::GetAttr { .. }, text) => {
            (owner, vec![text])
        }
        (BinaryOp::Contains, Expr::Set(elements), owner)
        | (BinaryOp::ContainsAny | BinaryOp::ContainsAll, owner, Expr::Set(elements)) => {
            (owner, elements.iter().map(|element| &**element).collect())
        }
        (_, _, _) => (left, Vec::new()),
    };
    let texts = texts.into_iter().filter_map(|text| {
        let Expr::Literal(Literal::String(text)) = text else {
            return None;
        };
        Some(text.as_str())
    });
    let path = path(owner).map(|(_, names)| names);
    texts.filter_map(move |text| Some((path.clone()?, text)))
}

/// The roles that a policy names.
pub(super) fn roles_in(policy: &Policy) -> BTreeSet<String> {
    policy.entity_literals().iter().filter_map(role_name).collect()
}

/// The name of a role; `None` for any other entity.
pub(super) fn role_name(entity: &EntityUid) -> Option<String> {
    (entity.type_name().to_string() == ROLE).then(|| entity.id().unescaped().to_owned())
}

/// `; did you mean …?`, where there is something.
pub(super) fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The names that are a slip away from another one, the nearest first. Names that differ in their
/// digits alone are different on purpose.
pub(super) fn nearest<'n>(name: &str, others: impl Iterator<Item = &'n str>) -> impl Iterator<Item = &'n str> {
    /// One slip in so many characters.
    const CHARS_PER_SLIP: usize = 3;
    let slips_max = (name.chars().count() / CHARS_PER_SLIP).max(1);
    let without_digits = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    let mut near: Vec<(usize, &str)> = others
        .filter(|other| *other != name && without_digits(other) != without_digits(name))
        .map(|other| (slips(&name.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(slips, _)| *slips <= slips_max)
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, other)| other)
}

/// How many characters were left out, added, changed, or swapped with the next one (optimal string
/// alignment).
fn slips(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, char) in from.iter().enumerate() {
        let mut next = vec![row.saturating_add(1)];
        for (column, other) in to.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let plus_one = |count: usize| count.saturating_add(1);
            let changed = at(&last, column).saturating_add(usize::from(char != other));
            let added_or_left_out = plus_one(at(&last, plus_one(column)).min(at(&next, column)));
            let previous = (row.checked_sub(1), column.checked_sub(1));
            let is_swap = |row: usize, column: usize| from.get(row) == Some(other) && to.get(column) == Some(char);
            let swapped = match previous {
                (Some(row), Some(column)) if is_swap(row, column) => plus_one(at(&before, column)),
                (_, _) => usize::MAX,
            };
            next.push(changed.min(added_or_left_out).min(swapped));
        }
        before = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or(0)
}

/// `context has "device" && context["device"] has "state"`. Names need no escape: they are the
/// policy's own.
fn has(variable: &str, before: &[&str], name: &str) -> String {
    let mut owner = variable.to_owned();
    let mut condition = String::new();
    for attribute in before {
        condition.push_str(&format!("{owner} has {attribute:?} && "));
        owner.push_str(&format!("[{attribute:?}]"));
    }
    condition.push_str(&format!("{owner} has {name:?}"));
    condition
}

/// Which variable, and the way from there.
fn path_of(expression: &Expr) -> Option<(&'static str, Vec<&str>)> {
    if let Expr::GetAttr { expr, attr } = expression {
        let (variable, mut names) = path_of(expr)?;
        names.push(attr.as_str());
        return Some((variable, names));
    }
    let Expr::Var(variable) = expression else { return None };
    let name = match variable {
        Var::Principal => "principal",
        Var::Action => "action",
        Var::Resource => "resource",
        Var::Context => "context",
    };
    Some((name, Vec::new()))
}

/// The actions that the request's is compared with.
fn compared_to_action<'e>(op: BinaryOp, left: &'e Expr, right: &'e Expr) -> impl Iterator<Item = &'e Expr> {
    let is_action = |expression: &Expr| matches!(expression, Expr::Var(Var::Action));
    let candidates: Vec<&Expr> = match (op, left, right) {
        (BinaryOp::Eq | BinaryOp::NotEq, variable, other) if is_action(variable) => vec![other],
        (BinaryOp::Eq | BinaryOp::NotEq, other, variable) if is_action(variable) => vec![other],
        (BinaryOp::Contains, Expr::Set(elements), variable) if is_action(variable) => {
            elements.iter().map(|element| &**element).collect()
        }
        (_, _, _) => Vec::new(),
    };
    let is_literal = |expression: &&Expr| matches!(expression, Expr::Literal(Literal::EntityUID(_)));
    candidates.into_iter().filter(is_literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_a_character_left_out_added_changed_or_swapped() {
        for (from, to, expected) in [
            ("", "", 0),
            ("clerk", "clerk", 0),
            ("clrek", "clerk", 1),
            ("clrk", "clerk", 1),
            ("cleerk", "clerk", 1),
            ("clerq", "clerk", 1),
            ("", "abc", 3),
            ("reader", "writer", 4),
        ] {
            assert_eq!((slips(from, to), slips(to, from)), (expected, expected), "{from} {to}");
        }
    }

    #[test]
    fn the_nearest_names_come_first_and_numbers_are_no_slips() {
        let names = ["clerk", "clerks", "cleric", "admin", "team1", "Reader"];
        let near = |name: &str| nearest(name, names.into_iter()).collect::<Vec<_>>();
        assert_eq!(near("clrek"), ["clerk"]);
        assert_eq!(near("clerkz"), ["clerk", "clerks", "cleric"]);
        assert_eq!(near("reader"), ["Reader"]);
        for none in ["team2", "auditor", "x"] {
            assert_eq!(near(none), [""; 0], "{none}");
        }
    }
}
