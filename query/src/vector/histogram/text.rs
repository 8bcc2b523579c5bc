//! Histograms as text, in Prometheus' form: `{count:3, sum:1.5, (0.5,1]:2, (1,2]:1}`.

use std::fmt;

use super::{Bucket, Histogram};
use crate::text::format_general;

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, sum) = (format_general(self.count), format_general(self.sum));
        write!(f, "{{count:{count}, sum:{sum}")?;
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let (lower, upper) = (format_general(self.lower), format_general(self.upper));
        let count = format_general(self.count);
        write!(f, "{open}{lower},{upper}{close}:{count}")
    }
}
