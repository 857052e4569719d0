//! The few statistics of the lab: medians, quantiles, a bisection, and a test of whether two sets
//! of samples differ.

/// The middle of the values; nothing of none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The value below which `part` (0 to 1) of the values lie: the nearest rank, so that it is one that
/// was measured.
pub(crate) fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1)))
        .copied()
}

/// `steps + 1` quantiles from the least to the greatest: a distribution to draw.
pub(crate) fn quantiles(values: &[f64], steps: usize) -> Vec<f64> {
    let sorted = sorted(values);
    if sorted.is_empty() {
        return Vec::new();
    }
    let last = sorted.len() - 1;
    (0..=steps)
        .map(|step| sorted[(last * step + steps / 2) / steps])
        .collect()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The largest value between `low` and `high` that passes, by halving `steps` times; nothing when
/// not even the lowest that was tried did. A trial gives what it measured if it passes.
///
/// # Errors
/// Those of the trial.
pub(crate) fn bisect<E>(
    (mut low, mut high): (f64, f64),
    steps: u32,
    mut trial: impl FnMut(f64) -> Result<Option<f64>, E>,
) -> Result<Option<f64>, E> {
    let mut best = None;
    for _ in 0..steps {
        let middle = f64::midpoint(low, high);
        match trial(middle)? {
            Some(measured) => {
                low = middle;
                best = Some(measured);
            }
            None => high = middle,
        }
    }
    Ok(best)
}

/// The exact two-sided p-value of Mann and Whitney (1947, "On a Test of Whether one of Two Random
/// Variables is Stochastically Larger than the Other"): how probable it is that samples of one and
/// the same thing lie at least that far apart. Ties count a half each way, and a half more is no further apart than
/// the whole above it. With three on each side
/// the least is 0.1, with four 0.029, with five 0.008.
pub(crate) fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let (n, m) = (a.len(), b.len());
    if n == 0 || m == 0 {
        return 1.0;
    }
    let wins = |x: &f64, y: &f64| match x.total_cmp(y) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    let u: f64 = a
        .iter()
        .flat_map(|x| b.iter().map(move |y| wins(x, y)))
        .sum();
    let least = u.min((n * m) as f64 - u);
    let ways = arrangements(n, m);
    let all: f64 = ways.iter().sum();
    let tail: f64 = ways.iter().take(least.ceil() as usize + 1).sum();
    (2.0 * tail / all).min(1.0)
}

/// For each U from 0 to n·m: in how many of the orders of n and m things it comes out. By the
/// recurrence of the paper: the largest is either one of the n, which wins over all m, or of the m.
fn arrangements(n: usize, m: usize) -> Vec<f64> {
    let mut table = vec![vec![vec![1.0]; m + 1]; n + 1];
    for i in 1..=n {
        for j in 1..=m {
            let mut ways = vec![0.0; i * j + 1];
            for (u, count) in table[i - 1][j].iter().enumerate() {
                ways[u + j] += count;
            }
            for (u, count) in table[i][j - 1].iter().enumerate() {
                ways[u] += count;
            }
            table[i][j] = ways;
        }
    }
    std::mem::take(&mut table[n][m])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two_middle_ones() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN, 1.0]), Some(1.0));
    }

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&hundred, 0.5), Some(50.0));
        assert_eq!(quantile(&hundred, 0.99), Some(99.0));
        assert_eq!(quantile(&hundred, 1.0), Some(100.0));
        assert_eq!(quantile(&hundred, 0.0), Some(1.0));
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
        let drawn = quantiles(&hundred, 4);
        assert_eq!(drawn, [1.0, 26.0, 51.0, 75.0, 100.0]);
    }

    #[test]
    fn bisection_comes_close_to_where_a_machine_begins_to_lose() {
        let trial = |rate: f64| Ok::<_, ()>((rate <= 137.0).then_some(rate));
        let found = bisect((0.0, 1_000.0), 10, trial).unwrap().unwrap();
        assert!((136.0..=137.0).contains(&found), "{found}");
        assert_eq!(bisect((0.0, 1_000.0), 5, |_| Ok::<_, ()>(None)), Ok(None));
        assert_eq!(
            bisect((0.0, 1.0), 5, |_| Err("interrupted")),
            Err("interrupted")
        );
    }

    /// From the tables of the paper and of textbooks.
    #[test]
    fn the_test_of_mann_and_whitney_gives_the_known_probabilities() {
        let near = |a: &[f64], b: &[f64], wanted: f64| {
            let p = mann_whitney(a, b);
            assert!((p - wanted).abs() < 5e-4, "{p} is not {wanted}");
            assert!((mann_whitney(b, a) - p).abs() < 1e-9);
        };
        near(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], 0.1);
        near(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0], 0.0286);
        near(
            &[1.0, 2.0, 3.0, 4.0, 5.0],
            &[6.0, 7.0, 8.0, 9.0, 10.0],
            0.0079,
        );
        near(&[1.0, 3.0, 5.0], &[2.0, 4.0, 6.0], 0.7);
        near(&[1.0, 1.0], &[1.0, 1.0], 1.0);
        near(&[10.0, 10.0, 10.2], &[10.2, 10.6, 10.8], 0.2);
        near(&[], &[1.0], 1.0);
    }
}
