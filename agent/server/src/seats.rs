//! How many connections each tenant has, and may have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_threads::TenantId;

/// The connections of all tenants. A clone is another handle to the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seats {
    taken: Arc<Mutex<HashMap<TenantId, usize>>>,
}

/// A tenant has as many connections as it may. Another may find room later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many connections of this tenant, at most {max}")]
pub(crate) struct Full {
    /// How many it may have.
    pub(crate) max: usize,
}

/// The place of one connection; free again once it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    tenant: TenantId,
}

impl Seats {
    /// A place for a connection of a tenant that may have so many.
    pub(crate) fn take(&self, tenant: &TenantId, max: usize) -> Result<Seat, Full> {
        let mut taken = self.lock();
        let count = taken.get(tenant).copied().unwrap_or(0);
        if count >= max {
            return Err(Full { max });
        }
        taken.insert(tenant.clone(), count + 1);
        Ok(Seat { seats: self.clone(), tenant: tenant.clone() })
    }

    /// How many places are taken, by all tenants.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(count) = taken.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_threads::TenantId;

    use super::{Full, Seats};

    #[test]
    fn each_tenant_has_its_own_places() {
        let seats = Seats::default();
        let [acme, other] = ["acme", "other"].map(TenantId::new);
        let first = seats.take(&acme, 2).unwrap();
        let _second = seats.take(&acme, 2).unwrap();
        assert_eq!(seats.take(&acme, 2).unwrap_err(), Full { max: 2 });
        let _others = seats.take(&other, 2).unwrap();
        drop(first);
        drop(seats.take(&acme, 2).unwrap());
        assert_eq!(seats.lock().len(), 2);
    }

    #[test]
    fn nothing_is_kept_of_who_has_gone() {
        let seats = Seats::default();
        drop(seats.take(&TenantId::new("acme"), 1).unwrap());
        assert!(seats.lock().is_empty());
    }
}
