//! The newest of something.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::sightings::TooMany;

/// At most `MAX`, the oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    try_from = "VecDeque<T>",
    into = "VecDeque<T>",
    bound(serialize = "T: Clone + Serialize", deserialize = "T: Deserialize<'de>")
)]
pub(super) struct Recent<T, const MAX: usize>(VecDeque<T>);

impl<T, const MAX: usize> Recent<T, MAX> {
    /// The oldest makes room.
    pub(super) fn push(&mut self, newest: T) {
        if self.0.len() >= MAX {
            self.0.pop_front();
        }
        self.0.push_back(newest);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter()
    }

    pub(super) fn newest_mut(&mut self) -> Option<&mut T> {
        self.0.back_mut()
    }

    /// Takes the first out that is like this.
    pub(super) fn take(&mut self, is_like: impl Fn(&T) -> bool) -> Option<T> {
        let index = self.0.iter().position(is_like)?;
        self.0.remove(index)
    }

    pub(super) fn retain(&mut self, is_kept: impl FnMut(&T) -> bool) {
        self.0.retain(is_kept);
    }
}

impl<T, const MAX: usize> Default for Recent<T, MAX> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T, const MAX: usize> TryFrom<VecDeque<T>> for Recent<T, MAX> {
    type Error = TooMany;

    fn try_from(items: VecDeque<T>) -> Result<Self, TooMany> {
        match items.len() {
            found if found > MAX => Err(TooMany { found, max: MAX }),
            _ => Ok(Self(items)),
        }
    }
}

impl<T, const MAX: usize> From<Recent<T, MAX>> for VecDeque<T> {
    fn from(recent: Recent<T, MAX>) -> Self {
        recent.0
    }
}
