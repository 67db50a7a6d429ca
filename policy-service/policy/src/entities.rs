//! The loaded entities, and what of them the evaluation of one request needs.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entities, Entity, EntityUid};

use super::errors::{ModelError, cedar_error};
use super::needs::Reach;

/// The entities that do not come from requests: those of the folder, and the schema's actions.
pub(super) struct LoadedEntities {
    all: Entities,
    /// For each action a set of nothing but it.
    actions: HashMap<EntityUid, Entities>,
}

impl LoadedEntities {
    /// Takes the entities of a folder, which are transitively closed.
    pub(super) fn new<'a>(all: Entities, actions: impl IntoIterator<Item = &'a EntityUid>) -> Result<Self, ModelError> {
        let alone = |action: &EntityUid| {
            let ancestors = all.ancestors(action).into_iter().flatten().cloned();
            // Schemas give actions neither attributes nor tags.
            let entity = Entity::new_no_attrs(action.clone(), ancestors.collect());
            let set = Entities::from_entities([entity], None).map_err(cedar_error("entities"))?;
            Ok((action.clone(), set))
        };
        let actions = actions.into_iter().map(alone).collect::<Result<_, ModelError>>()?;
        Ok(Self { all, actions })
    }

    /// None at all.
    pub(super) fn none() -> Self {
        Self {
            all: Entities::empty(),
            actions: HashMap::new(),
        }
    }

    /// These entities and everything that they are in, directly or not.
    pub(super) fn closure(&self, entities: impl Iterator<Item = EntityUid>) -> HashSet<EntityUid> {
        let mut closed = HashSet::new();
        for entity in entities {
            closed.extend(self.all.ancestors(&entity).into_iter().flatten().cloned());
            closed.insert(entity);
        }
        closed
    }

    /// The entities to evaluate a request over. Those that were made for it have a
    /// [`Self::closure`] as parents, so they are complete without the entities in between.
    pub(super) fn with(&self, made: Vec<Entity>, action: &EntityUid, reach: Reach) -> Result<Entities, ModelError> {
        let loaded = match (reach, self.actions.get(action)) {
            (Reach::Request, Some(alone)) => alone,
            (Reach::Request, None) | (Reach::All, _) => &self.all,
        };
        loaded.clone().add_entities(made, None).map_err(cedar_error("entities"))
    }
}
