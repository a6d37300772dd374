//! Cron expressions with time zones.

use flywheel_api::flywheel_pipeline::ScheduleTrigger;
use jiff::{SignedDuration, Timestamp};

/// Whether the schedule can be understood.
pub fn check(schedule: &ScheduleTrigger) -> Result<(), String> {
    parse(schedule).map(drop)
}

fn parse(schedule: &ScheduleTrigger) -> Result<cronexpr::Crontab, String> {
    let text = format!("{} {}", schedule.cron, schedule.time_zone);
    cronexpr::parse_crontab(&text).map_err(|e| e.to_string().lines().next().unwrap_or("unreadable").to_owned())
}

/// The first moment after this one.
pub fn next(schedule: &ScheduleTrigger, after: Timestamp) -> Option<Timestamp> {
    let found = parse(schedule).ok()?.find_next(after).ok()?;
    Some(found.timestamp())
}

/// The last moment in (after, now] that is not older than the starting deadline.
pub fn due(schedule: &ScheduleTrigger, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let oldest = now - SignedDuration::from_secs(schedule.starting_deadline_seconds.clamp(0, 604_800));
    let crontab = parse(schedule).ok()?;
    let mut found = None;
    let mut from = after.max(oldest);
    // At most one moment a minute: the loop is bounded by the deadline.
    while let Ok(at) = crontab.find_next(from) {
        let at = at.timestamp();
        if at > now || at <= from {
            break;
        }
        found = Some(at);
        from = at;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, zone: &str) -> ScheduleTrigger {
        ScheduleTrigger {
            cron: cron.to_owned(),
            time_zone: zone.to_owned(),
            starting_deadline_seconds: 3600,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or_default()
    }

    #[test]
    fn the_time_zone_moves_the_moment() {
        let zurich = next(&schedule("0 3 * * 1", "Europe/Zurich"), at("2026-07-01T00:00:00Z"));
        assert_eq!(zurich, Some(at("2026-07-06T01:00:00Z")));
        let utc = next(&schedule("0 3 * * 1", "UTC"), at("2026-07-01T00:00:00Z"));
        assert_eq!(utc, Some(at("2026-07-06T03:00:00Z")));
    }

    #[test]
    fn a_missed_moment_counts_until_its_deadline() {
        let hourly = schedule("0 * * * *", "UTC");
        let last = at("2026-07-01T00:00:00Z");
        assert_eq!(
            due(&hourly, last, at("2026-07-01T03:30:00Z")),
            Some(at("2026-07-01T03:00:00Z"))
        );
        let daily = schedule("0 0 * * *", "UTC");
        assert_eq!(
            due(&daily, last, at("2026-07-02T00:59:00Z")),
            Some(at("2026-07-02T00:00:00Z"))
        );
        assert_eq!(due(&daily, last, at("2026-07-02T02:00:00Z")), None);
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        assert!(check(&schedule("0 25 * * *", "UTC")).is_err());
        assert!(check(&schedule("0 3 * * *", "Europe/Nowhere")).is_err());
    }
}
