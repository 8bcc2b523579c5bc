//! Templates against hand-computed outputs.
