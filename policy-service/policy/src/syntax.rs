//! What a policy's own text says about the requests that it can apply to, and about what it looks
//! at.

use cedar_policy::pst::{ActionConstraint, BinaryOp, Clause, Expr, Literal, ResourceConstraint, UnaryOp, Var};
use cedar_policy::{Policy, pst};

use super::compared::Compared;
use super::needs::{Needs, TIME};

/// How deep a condition is read. Cedar evaluates as deep without running out of stack
/// (`RecursionLimit`), which would be an error that a skipped policy does not give.
const DEPTH_MAX: u32 = 64;
/// How many `when` and `unless` are read; each one adds to the depth of those after it.
const CLAUSES_MAX: usize = 16;
/// Longer policies are not read: reading recurses as deep as they nest.
const POLICY_BYTES_MAX: usize = 16 * 1024;

/// Properties of a validated policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Traits {
    /// It is false, without an error, for every other route rule.
    pub(super) route_rule: Option<String>,
    pub(super) needs: Needs,
    pub(super) compared: Compared,
}

/// Reads a policy that the strict validator has accepted. What is not understood restricts nothing.
pub(super) fn traits_of(policy: &Policy) -> Traits {
    match body_of(policy) {
        // The scope of a policy cannot fail.
        Some(body) => Traits {
            route_rule: route_rule(body.clauses()),
            needs: of_scope(&body).and(of_all(body.clauses().iter().map(inner))),
            compared: Compared::in_all(body.clauses().iter().map(inner)),
        },
        None => Traits {
            route_rule: None,
            needs: Needs::ALL,
            compared: Compared::anyhow(),
        },
    }
}

/// A policy's scope and clauses; `None` where it is too long to be read.
pub(super) fn body_of(policy: &Policy) -> Option<pst::Template> {
    let is_short = policy.to_cedar().is_some_and(|text| text.len() <= POLICY_BYTES_MAX);
    match is_short.then(|| policy.to_pst()) {
        Some(Ok(pst::Policy::Static(policy))) => Some(policy.body().clone()),
        Some(Ok(pst::Policy::Linked(_)) | Err(_)) | None => None,
    }
}

fn inner(clause: &Clause) -> &Expr {
    match clause {
        Clause::When(expression) | Clause::Unless(expression) => expression,
    }
}

/// What the beginning of a condition, in the order of evaluation, asks for.
enum Beginning {
    RouteRule(String),
    /// It gives true or false, so that what comes after it is evaluated or the policy is false.
    Infallible,
    Unknown,
}

/// The route rule that is asked for before anything can fail: Cedar evaluates clauses and `&&` from
/// left to right, and stops at the first false.
fn route_rule(clauses: &[Clause]) -> Option<String> {
    for clause in clauses.iter().take(CLAUSES_MAX) {
        let beginning = match clause {
            Clause::When(expression) => beginning(expression, DEPTH_MAX),
            Clause::Unless(expression) if is_infallible(expression, DEPTH_MAX) => Beginning::Infallible,
            Clause::Unless(_) => Beginning::Unknown,
        };
        match beginning {
            Beginning::RouteRule(rule) => return Some(rule),
            Beginning::Infallible => {}
            Beginning::Unknown => return None,
        }
    }
    None
}

fn beginning(expression: &Expr, depth: u32) -> Beginning {
    let Some(depth) = depth.checked_sub(1) else {
        return Beginning::Unknown;
    };
    if let Expr::BinaryOp { op, left, right } = expression {
        if *op == BinaryOp::And {
            return match beginning(left, depth) {
                Beginning::Infallible => beginning(right, depth),
                found @ (Beginning::RouteRule(_) | Beginning::Unknown) => found,
            };
        }
        if *op == BinaryOp::Eq
            && let Some(rule) = compared_to_route_rule(left, right).or_else(|| compared_to_route_rule(right, left))
        {
            return Beginning::RouteRule(rule);
        }
    }
    match is_infallible(expression, depth) {
        true => Beginning::Infallible,
        false => Beginning::Unknown,
    }
}

/// The resource is always the one that the service makes, which has a route rule whatever the
/// schema says.
fn compared_to_route_rule(attribute: &Expr, literal: &Expr) -> Option<String> {
    let Expr::GetAttr { expr, attr } = attribute else {
        return None;
    };
    match (&**expr, attr.as_str(), literal) {
        (Expr::Var(Var::Resource), "route_rule", Expr::Literal(Literal::String(rule))) => Some(rule.to_string()),
        _ => None,
    }
}

/// True for what cannot fail once it was validated. Validation leaves overflows, functions of
/// extensions, and attributes and tags of entities that do not exist; here, only those of the
/// request's own entities are taken for granted.
fn is_infallible(expression: &Expr, depth: u32) -> bool {
    let Some(depth) = depth.checked_sub(1) else {
        return false;
    };
    let infallible = |expression: &Expr| is_infallible(expression, depth);
    if let Expr::Literal(_) | Expr::Var(_) = expression {
        true
    } else if let Expr::UnaryOp { op, expr } = expression {
        matches!(op, UnaryOp::Not | UnaryOp::IsEmpty) && infallible(expr)
    } else if let Expr::BinaryOp { op, left, right } = expression {
        let is_total = matches!(
            op,
            BinaryOp::Eq
                | BinaryOp::NotEq
                | BinaryOp::And
                | BinaryOp::Or
                | BinaryOp::In
                | BinaryOp::Contains
                | BinaryOp::ContainsAll
                | BinaryOp::ContainsAny
                | BinaryOp::HasTag
        );
        is_total && infallible(left) && infallible(right)
    } else if let Expr::GetAttr { expr, .. } = expression {
        // What the service makes holds records and no entities, so a chain that begins with a
        // variable ends in the request.
        matches!(**expr, Expr::Var(_) | Expr::GetAttr { .. }) && infallible(expr)
    } else if let Expr::HasAttr { expr, attrs } = expression {
        attrs.len() == 1 && infallible(expr)
    } else if let Expr::Like { expr, .. } = expression {
        infallible(expr)
    } else if let Expr::Is { expr, in_expr, .. } = expression {
        infallible(expr) && in_expr.as_ref().is_none_or(|within| infallible(within))
    } else if let Expr::Set(elements) = expression {
        elements.iter().all(|element| infallible(element))
    } else {
        false
    }
}

/// What the evaluation of an expression looks at.
///
/// Entities come from the variables, from attributes (the service makes none that holds an entity)
/// and from literals. A literal is looked into nowhere where it is only compared: as a side of `==`
/// and `!=`, right of `in`, and in a set, which gives its elements to nobody.
fn needs(expression: &Expr) -> Needs {
    match expression {
        Expr::Literal(Literal::EntityUID(_)) => Needs::ALL_ENTITIES,
        Expr::Literal(Literal::Bool(_) | Literal::Long(_) | Literal::String(_)) => Needs::NONE,
        // As a value, with all that is in it; an attribute of it is below.
        Expr::Var(Var::Context) => Needs::ALL_ATTRIBUTES,
        Expr::Var(Var::Principal) => Needs::NONE,
        Expr::Var(Var::Action) => Needs::ACTION_ID,
        Expr::Var(Var::Resource) => Needs::RESOURCE_ID,
        Expr::GetAttr { expr, attr } => of_owner(expr).and(Needs::of_attribute(attr)),
        Expr::HasAttr { expr, attrs } => attrs
            .iter()
            .map(|attr| Needs::of_attribute(attr))
            .fold(of_owner(expr), Needs::and),
        Expr::UnaryOp { expr, .. } | Expr::Like { expr, .. } => needs(expr),
        Expr::BinaryOp { op, left, right } => of_operator(*op, left, right),
        Expr::Is { expr, in_expr, .. } => {
            let within = in_expr.as_ref().map_or(Needs::NONE, |within| of_compared(within));
            needs(expr).and(within)
        }
        Expr::IfThenElse {
            cond,
            then_expr,
            else_expr,
        } => of_all([cond, then_expr, else_expr].into_iter().map(|part| &**part)),
        Expr::Set(elements) => elements
            .iter()
            .map(|element| of_compared(element))
            .fold(Needs::NONE, Needs::and),
        Expr::Record(_) | Expr::Slot(_) | Expr::Unknown { .. } | _ => Needs::ALL,
    }
}

fn of_operator(op: BinaryOp, left: &Expr, right: &Expr) -> Needs {
    if matches!(op, BinaryOp::Eq | BinaryOp::NotEq) {
        of_compared(left).and(of_compared(right))
    } else if matches!(op, BinaryOp::In | BinaryOp::Contains) {
        needs(left).and(of_compared(right))
    } else if matches!(op, BinaryOp::GetTag | BinaryOp::HasTag) {
        Needs::TAGS.and(of_owner(left)).and(needs(right))
    } else {
        needs(left).and(needs(right))
    }
}

/// A scope looks at ancestors and types only. All requests have a resource of one type.
fn of_scope(policy: &pst::Template) -> Needs {
    let action = match policy.action {
        ActionConstraint::Any => Needs::NONE,
        ActionConstraint::Eq(_) | ActionConstraint::In(_) => Needs::ACTION_ID,
    };
    let resource = match policy.resource {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => Needs::NONE,
        ResourceConstraint::Eq(_) | ResourceConstraint::In(_) | ResourceConstraint::IsIn(..) => Needs::RESOURCE_ID,
    };
    action.and(resource)
}

fn of_all<'a>(expressions: impl Iterator<Item = &'a Expr>) -> Needs {
    expressions.map(needs).fold(Needs::NONE, Needs::and)
}

/// What has an attribute or a tag that is read. An action's come from the schema, by which action
/// it is.
fn of_owner(expression: &Expr) -> Needs {
    let is_variable = matches!(expression, Expr::Var(Var::Principal | Var::Resource | Var::Context));
    match is_variable || is_time(expression) {
        true => Needs::NONE,
        false => needs(expression),
    }
}

/// `context.time`, which is always there: its hour does not depend on its minute.
fn is_time(expression: &Expr) -> bool {
    matches!(expression, Expr::GetAttr { expr, attr } if attr == TIME && matches!(**expr, Expr::Var(Var::Context)))
}

/// An expression in a place where a literal entity is only compared.
fn of_compared(expression: &Expr) -> Needs {
    match matches!(expression, Expr::Literal(_)) {
        true => Needs::NONE,
        false => needs(expression),
    }
}
