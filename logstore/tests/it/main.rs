//! Tests of the store through its public interface, on a simulated file system.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod delete;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod model;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod questions;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod shipping;
#[cfg(test)]
mod store;
#[cfg(test)]
mod tail;
