//! Histogram algebra.
