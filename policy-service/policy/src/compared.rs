//! What policies compare the strength and the age of an authentication with: by that a denial is
//! known that another authentication would turn into a permit, and how long an answer about an age
//! holds.

use std::collections::BTreeSet;

use cedar_policy::pst::{BinaryOp, Expr, Literal};

const AUTH_AGE: &str = "auth_age";
const ACR: &str = "acr";

/// The literals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) ages: Ages,
    /// Authentication context classes.
    pub(super) acr_values: BTreeSet<String>,
}

/// What `auth_age` is compared with, in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ages {
    /// These, and it is used for nothing else.
    Compared(BTreeSet<i64>),
    /// It is used in a way that is not understood.
    Unknown,
}

impl Default for Ages {
    fn default() -> Self {
        Self::Compared(BTreeSet::new())
    }
}

impl Ages {
    fn add(&mut self, age_s: i64) {
        if let Self::Compared(ages) = self {
            ages.insert(age_s);
        }
    }

    fn and(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Compared(ages), Self::Compared(more)) => ages.extend(more),
            (Self::Compared(_), Self::Unknown) | (Self::Unknown, _) => *self = Self::Unknown,
        }
    }
}

impl Compared {
    /// Of a policy that is not understood.
    pub(super) fn anyhow() -> Self {
        Self {
            ages: Ages::Unknown,
            acr_values: BTreeSet::new(),
        }
    }

    /// Of these expressions, which are no deeper than a policy may be that is read.
    pub(super) fn in_all<'a>(expressions: impl Iterator<Item = &'a Expr>) -> Self {
        let mut compared = Self::default();
        for expression in expressions {
            compared.look_at(expression);
        }
        compared
    }

    /// Takes in what other policies compare.
    pub(super) fn and(&mut self, other: &Self) {
        self.ages.and(&other.ages);
        self.acr_values.extend(other.acr_values.iter().cloned());
    }

    fn look_at(&mut self, expression: &Expr) {
        if let Expr::BinaryOp { op, left, right } = expression {
            if let Some((owner, age_s)) = age(*op, left, right).or_else(|| age(*op, right, left)) {
                self.ages.add(age_s);
                return self.look_at(owner);
            }
            self.look_at_acr(*op, left, right);
            self.look_at_acr(*op, right, left);
        }
        if let Expr::GetAttr { attr, .. } = expression
            && attr == AUTH_AGE
        {
            self.ages = Ages::Unknown;
        }
        match parts(expression) {
            Some(parts) => parts.into_iter().for_each(|part| self.look_at(part)),
            None => self.ages = Ages::Unknown,
        }
    }

    /// `acr == "…"`, and `["…", "…"].contains(acr)`.
    fn look_at_acr(&mut self, op: BinaryOp, attribute: &Expr, with: &Expr) {
        if !matches!(attribute, Expr::GetAttr { attr, .. } if attr == ACR) {
            return;
        }
        let literals = match (op, with) {
            (BinaryOp::Eq | BinaryOp::NotEq, Expr::Literal(_)) => std::slice::from_ref(with),
            (BinaryOp::Contains, Expr::Set(elements)) => {
                return self
                    .acr_values
                    .extend(elements.iter().filter_map(|element| text(element)));
            }
            _ => return,
        };
        self.acr_values.extend(literals.iter().filter_map(text));
    }
}

/// What has the age, and the seconds that it is compared with.
fn age<'a>(op: BinaryOp, attribute: &'a Expr, with: &Expr) -> Option<(&'a Expr, i64)> {
    let is_comparison = matches!(
        op,
        BinaryOp::Eq | BinaryOp::NotEq | BinaryOp::Less | BinaryOp::LessEq | BinaryOp::Greater | BinaryOp::GreaterEq
    );
    match (attribute, with) {
        (Expr::GetAttr { expr, attr }, Expr::Literal(Literal::Long(age_s))) if is_comparison && attr == AUTH_AGE => {
            Some((expr, *age_s))
        }
        _ => None,
    }
}

fn text(literal: &Expr) -> Option<String> {
    if let Expr::Literal(Literal::String(text)) = literal {
        return Some(text.to_string());
    }
    None
}

/// The expressions in an expression. `None`: it is not known which.
pub(super) fn parts(expression: &Expr) -> Option<Vec<&Expr>> {
    Some(match expression {
        Expr::Literal(_) | Expr::Var(_) | Expr::Slot(_) => Vec::new(),
        Expr::UnaryOp { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::Like { expr, .. } => vec![expr],
        Expr::BinaryOp { left, right, .. } => vec![left, right],
        Expr::Is { expr, in_expr, .. } => {
            let within = in_expr.as_ref().map(|within| &**within);
            std::iter::once(&**expr).chain(within).collect()
        }
        Expr::IfThenElse {
            cond,
            then_expr,
            else_expr,
        } => vec![cond, then_expr, else_expr],
        Expr::Set(elements) => elements.iter().map(|element| &**element).collect(),
        Expr::Record(members) => members.values().map(|member| &**member).collect(),
        Expr::Unknown { .. } | _ => return None,
    })
}
