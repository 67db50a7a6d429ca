//! What every call of an operator or a reporter has in common: the role that it needs, and the record of what it did.

use tonic::Request;

use super::gate::Admitted;
use super::status::{AdminError, DecideError};
use crate::audit::{Act, AdministrationRecord, AuditLog, Event, Outcome};
use crate::clock;
use crate::configuration::Role;

/// Who calls, by its SPIFFE ID. Its call has its place among those that are served for as long as there is one of these: until the
/// answer, and until what was ordered is done.
#[derive(Clone)]
pub(super) struct Caller(Admitted);

impl std::ops::Deref for Caller {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.caller()
    }
}

/// What is done, to whom, by whom.
pub(super) struct Order {
    pub(super) caller: Caller,
    pub(super) act: Act,
    /// As in [`AdministrationRecord::target`].
    pub(super) target: String,
}

/// What was done, with what the caller is told.
pub(super) struct Done<T> {
    pub(super) outcome: Outcome,
    pub(super) answer: T,
}

impl Done<bool> {
    /// Whether anything changed.
    pub(super) fn changed(changed: bool) -> Self {
        Self {
            outcome: if changed { Outcome::Done } else { Outcome::Unchanged },
            answer: changed,
        }
    }
}

/// The caller, if it has the role.
pub(super) fn admit<T>(request: &Request<T>, role: Role) -> Result<Caller, AdminError> {
    let admitted = Admitted::of(request.extensions()).map_err(|_: DecideError| AdminError::Role(role))?;
    match admitted.roles().allow(role) {
        true => Ok(Caller(admitted)),
        false => Err(AdminError::Role(role)),
    }
}

/// Does what was ordered and records it, also when the caller goes away meanwhile. While the audit log cannot be written, only
/// what takes something away is done.
///
/// # Errors
/// It was not done, or nobody knows; or it was done and is not recorded.
pub(super) async fn carry_out<T: Send + 'static>(
    audit: &AuditLog,
    order: Order,
    work: impl Future<Output = Result<Done<T>, AdminError>> + Send + 'static,
) -> Result<T, AdminError> {
    carry_out_naming(audit, order, |_| None, work).await
}

/// The same, where it is known only afterwards what it was done to.
///
/// # Errors
/// As [`carry_out`].
pub(super) async fn carry_out_naming<T: Send + 'static>(
    audit: &AuditLog,
    order: Order,
    target: fn(&T) -> Option<String>,
    work: impl Future<Output = Result<Done<T>, AdminError>> + Send + 'static,
) -> Result<T, AdminError> {
    if !order.act.only_takes_away() && audit.state().borrow().is_failing() {
        return Err(AdminError::AuditFails);
    }
    let audit = audit.clone();
    let done = tokio::spawn(async move {
        let done = work.await;
        let time_us = clock::now_unix_us();
        let record = AdministrationRecord {
            time_us: as_i64(time_us),
            caller: (*order.caller).to_owned(),
            act: order.act,
            target: done
                .as_ref()
                .ok()
                .and_then(|done| target(&done.answer))
                .unwrap_or(order.target),
            outcome: done.as_ref().map_or(Outcome::Failed, |done| done.outcome),
        };
        let recorded = audit.append(time_us, &Event::Administration(Box::new(record))).await;
        let done = done?;
        recorded?;
        Ok(done.answer)
    });
    done.await.unwrap_or(Err(AdminError::Cut))
}

/// The time of an act, in microseconds since the epoch.
pub(super) fn now_us() -> i64 {
    as_i64(clock::now_unix_us())
}

fn as_i64(time_us: u64) -> i64 {
    i64::try_from(time_us).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;
    use tonic::service::Interceptor;

    use super::*;
    use crate::audit::{self, KeyEncryptionKey};
    use crate::configuration::Roles;
    use crate::grpc::caller::Caller as Connected;
    use crate::grpc::gate::Gate;
    use crate::metrics::Metrics;

    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[tokio::test]
    async fn an_act_holds_its_place_and_is_recorded_also_when_its_caller_goes_away() {
        let key = || KeyEncryptionKey::from_hex(KEY).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("audit.sqlite3");
        let (audit, _writer) = AuditLog::open(&database, key(), |_| {}).unwrap();
        let mut gate = Gate::new(&[Role::Operator], 1, Arc::new(Metrics::new("", 0)));
        let mut called = || {
            let mut request = Request::new(());
            let operator = Connected::Allowed("spiffe://example.org/operator".into(), Roles::of(&[Role::Operator]));
            request.extensions_mut().insert(operator);
            gate.call(request)
        };
        let caller = admit(&called().unwrap(), Role::Operator).unwrap();
        let order = Order {
            caller,
            act: Act::LockdownOn,
            target: String::new(),
        };
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let work = {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move {
                begun.notify_one();
                go_on.notified().await;
                Ok(Done::changed(true))
            }
        };
        tokio::select! {
            _ = carry_out(&audit, order, work) => panic!("it has ended before it was let"),
            () = begun.notified() => {}
        }
        assert_eq!(called().unwrap_err().code(), tonic::Code::ResourceExhausted);
        go_on.notify_one();
        while called().is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(audit::verify(&database, &key(), None).unwrap().records, 1);
    }
}
