//! Binary operators on two numbers.

use std::fmt;

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`, with the sign of the dividend
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `>=`
    GreaterEqual,
    /// `<=`
    LessEqual,
    /// `</`: what of a native histogram lies below a float; nothing between floats
    TrimUpper,
    /// `>/`: what of a native histogram lies above a float; nothing between floats
    TrimLower,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

/// What a comparison yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Comparison {
    /// The compared value where it holds, nothing where it does not.
    #[default]
    Filter,
    /// With the modifier `bool`: 1 where it holds, 0 where it does not.
    Bool,
}

/// The rules that the languages do not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// IEEE 754: a division by zero is infinite.
    Prometheus,
    /// A division and a remainder by zero are NaN.
    Loki,
}

impl BinaryOp {
    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Greater
                | Self::Less
                | Self::GreaterEqual
                | Self::LessEqual
        )
    }

    /// Whether it cuts a part off a histogram.
    pub fn is_trim(self) -> bool {
        matches!(self, Self::TrimUpper | Self::TrimLower)
    }

    /// Whether its result is another metric than its operand.
    pub fn drops_name(self, comparison: Comparison) -> bool {
        if self.is_comparison() {
            comparison == Comparison::Bool
        } else {
            !self.is_trim()
        }
    }

    /// Whether it is one of `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// `left op right` as a number; a comparison gives 1 or 0. Set operators have no meaning
    /// between numbers and give NaN, and the trim operators [`ABSENT`](super::ABSENT).
    #[inline]
    pub fn apply(self, left: f64, right: f64, rules: Arithmetic) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div | Self::Mod if right == 0.0 && rules == Arithmetic::Loki => f64::NAN,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            Self::Atan2 => left.atan2(right),
            Self::And | Self::Or | Self::Unless => f64::NAN,
            Self::TrimUpper | Self::TrimLower => super::ABSENT,
            comparison => f64::from(comparison.holds(left, right)),
        }
    }

    /// Whether the comparison holds; false for operators that do not compare.
    #[inline]
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::Less => left < right,
            Self::GreaterEqual => left >= right,
            Self::LessEqual => left <= right,
            _ => false,
        }
    }
}

impl fmt::Display for BinaryOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterEqual => ">=",
            Self::LessEqual => "<=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        })
    }
}
