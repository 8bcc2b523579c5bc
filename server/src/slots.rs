//! Places that a tenant has for something that lasts, such as following its logs. `app` keeps them;
//! who takes a place gives it back by dropping it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::tenants::TenantId;

/// How many places are taken, by tenant.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<Mutex<HashMap<TenantId, usize>>>);

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    tenant: TenantId,
}

impl Slots {
    /// Takes one of `max` places of a tenant; 0 for any number.
    ///
    /// # Errors
    /// How many are taken when that are all.
    pub fn take(&self, tenant: &TenantId, max: usize) -> Result<Slot, usize> {
        let mut taken = self.0.lock();
        let count = taken.entry(tenant.clone()).or_insert(0);
        if max > 0 && *count >= max {
            return Err(*count);
        }
        *count += 1;
        Ok(Slot {
            slots: self.clone(),
            tenant: tenant.clone(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock();
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
    use super::{Slots, TenantId};

    #[test]
    fn places_are_given_back() {
        let slots = Slots::default();
        let (a, b) = (TenantId::parse("a").unwrap(), TenantId::parse("b").unwrap());
        let first = slots.take(&a, 2).unwrap();
        let second = slots.take(&a, 2).unwrap();
        assert_eq!(slots.take(&a, 2).unwrap_err(), 2);
        assert!(slots.take(&b, 2).is_ok());
        drop(first);
        let third = slots.take(&a, 2).unwrap();
        drop((second, third));
        assert!(slots.0.lock().is_empty());
    }
}
