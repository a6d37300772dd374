//! Intervals of differences and ratios of two groups from the intervals of each.

/// A value with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Point.
    pub value: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl Estimate {
    /// An estimate, if its numbers are in order.
    pub fn new(value: f64, low: f64, high: f64) -> Option<Self> {
        (low <= value && value <= high).then_some(Self { value, low, high })
    }

    /// `self - other` for groups without common rows (MOVER).
    pub fn minus(self, other: Self) -> Self {
        let value = self.value - other.value;
        let low = value - (self.value - self.low).hypot(other.high - other.value);
        let high = value + (self.high - self.value).hypot(other.value - other.low);
        Self { value, low, high }
    }

    /// `self / other` on the logarithmic scale; nothing unless all numbers are positive.
    pub fn over(self, other: Self) -> Option<Self> {
        let ratio = self.ln()?.minus(other.ln()?);
        Some(Self {
            value: ratio.value.exp(),
            low: ratio.low.exp(),
            high: ratio.high.exp(),
        })
    }

    fn ln(self) -> Option<Self> {
        (self.low > 0.0).then(|| Self {
            value: self.value.ln(),
            low: self.low.ln(),
            high: self.high.ln(),
        })
    }

    /// The same estimate with the opposite sign.
    pub fn negated(self) -> Self {
        Self {
            value: -self.value,
            low: -self.high,
            high: -self.low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_of_two_symmetric_intervals_is_the_root_of_the_sum_of_squares() {
        let a = Estimate {
            value: 10.0,
            low: 7.0,
            high: 13.0,
        };
        let b = Estimate {
            value: 4.0,
            low: 0.0,
            high: 8.0,
        };
        assert_eq!(
            a.minus(b),
            Estimate {
                value: 6.0,
                low: 1.0,
                high: 11.0
            }
        );
    }

    #[test]
    fn a_ratio_needs_positive_numbers() {
        let a = Estimate {
            value: 0.5,
            low: 0.4,
            high: 0.6,
        };
        let zero = Estimate {
            value: 0.1,
            low: 0.0,
            high: 0.2,
        };
        assert!(a.over(zero).is_none());
        let one = a.over(a).map(|r| (r.value, r.low < 1.0, r.high > 1.0));
        assert_eq!(one, Some((1.0, true, true)));
    }

    #[test]
    fn an_interval_that_does_not_hold_its_value_is_none() {
        assert!(Estimate::new(1.0, 2.0, 3.0).is_none());
        assert!(Estimate::new(f64::NAN, 0.0, 1.0).is_none());
    }
}
