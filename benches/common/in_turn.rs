//! Two things measured in turn, so that what else the machine does meets both alike.

use std::time::Duration;

use crate::figures::median;

/// Does one thing and another in turn so often, and gives the median of each.
pub(crate) fn in_turn<W>(
    times: usize,
    world: &mut W,
    mut one: impl FnMut(&mut W) -> Duration,
    mut other: impl FnMut(&mut W) -> Duration,
) -> [Duration; 2] {
    // The first of each pays for what it finds cold.
    one(world);
    other(world);
    let both: Vec<_> = (0..times).map(|_| (one(world), other(world))).collect();
    let (ones, others) = both.into_iter().unzip();
    [median(ones), median(others)]
}
