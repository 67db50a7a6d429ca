//! New sessions of a principal, one at a time. The storage makes them one after another in any case, and whoever waits for that in
//! the storage keeps a connection from everybody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::state::{PrincipalId, StorageError};

/// How many new sessions of one principal wait, the one that is made included; more at once are refused, so that none of them fills
/// the places of all.
const WAITING_MAX: usize = 32;

/// Who is in turn, and who waits.
#[derive(Default)]
pub(super) struct Turns {
    /// INVARIANT: as many as there are [`Turn`]s, none of which is zero.
    waiting: Mutex<HashMap<PrincipalId, Waiting>>,
}

#[derive(Default)]
struct Waiting {
    count: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A place among those that wait, and the turn once it came.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    principal: PrincipalId,
    _held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the principal's turn, which ends when this is dropped.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) async fn take(&self, principal: PrincipalId) -> Result<Turn<'_>, StorageError> {
        let turn = {
            let mut all = self.all();
            let waiting = all.entry(principal).or_default();
            if waiting.count >= WAITING_MAX {
                return Err(StorageError::Overloaded);
            }
            waiting.count += 1;
            Arc::clone(&waiting.turn)
        };
        // Before anything is awaited: whoever goes away gives the place back.
        let mut place = Turn {
            turns: self,
            principal,
            _held: None,
        };
        place._held = Some(turn.lock_owned().await);
        Ok(place)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<PrincipalId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut all = self.turns.all();
        if let Some(waiting) = all.get_mut(&self.principal) {
            waiting.count = waiting.count.saturating_sub(1);
            if waiting.count == 0 {
                all.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn principal(subject: &str) -> PrincipalId {
        PrincipalId::of("https://issuer.example", subject)
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_principal_waits_for_itself_and_for_nobody_else() {
        let turns = Turns::default();
        let mut first = Box::pin(turns.take(principal("alice")));
        let Poll::Ready(Ok(held)) = poll(first.as_mut()) else {
            panic!("nobody was before it");
        };
        let mut second = pin!(turns.take(principal("alice")));
        assert!(poll(second.as_mut()).is_pending());
        let mut other = pin!(turns.take(principal("bob")));
        assert!(matches!(poll(other.as_mut()), Poll::Ready(Ok(_))));
        drop(held);
        assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
    }

    #[test]
    fn so_many_wait_and_whoever_goes_away_makes_room() {
        let turns = Turns::default();
        let mut all: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(turns.take(principal("alice"))))
            .collect();
        let mut turn = None;
        for one in &mut all {
            match poll(one.as_mut()) {
                Poll::Ready(Ok(held)) if turn.is_none() => turn = Some(held),
                Poll::Ready(_) => panic!("only one is in turn"),
                Poll::Pending => {}
            }
        }
        let refused = |turns: &Turns| {
            let one_more = poll(pin!(turns.take(principal("alice"))));
            matches!(one_more, Poll::Ready(Err(StorageError::Overloaded)))
        };
        assert!(turn.is_some() && refused(&turns));
        all.pop();
        assert!(!refused(&turns));
        drop((turn, all));
        assert!(turns.all().is_empty());
    }
}
