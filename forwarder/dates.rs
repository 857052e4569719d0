//! Times as people and programs read them: RFC 3339, in UTC.

/// A second, from seconds since 1970.
pub(crate) fn seconds(unix_seconds: u64) -> String {
    format!("{}Z", civil(unix_seconds))
}

/// A millisecond, from nanoseconds since 1970.
pub(crate) fn milliseconds(unix_ns: u64) -> String {
    let (second, ms) = (unix_ns / 1_000_000_000, unix_ns / 1_000_000 % 1_000);
    format!("{}.{ms:03}Z", civil(second))
}

/// Date and time of day. Days to a civil date after Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms", `civil_from_days`.
fn civil(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = match month_from_march {
        0..=9 => month_from_march + 3,
        _ => month_from_march - 9,
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_the_date_that_date_of_coreutils_prints() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_838_400, "2026-11-28T04:00:00Z"),
        ] {
            assert_eq!(super::seconds(seconds), date);
        }
    }

    #[test]
    fn milliseconds_are_cut_and_not_rounded() {
        let ns = 951_782_400_999_999_999;
        assert_eq!(milliseconds(ns), "2000-02-29T00:00:00.999Z");
    }
}
