//! Cron expressions with time zones.

use std::iter;

use flywheel_api::flywheel_pipeline::ScheduleTrigger;
use jiff::{SignedDuration, Timestamp, Zoned};

/// From here schedules are tried, whatever the time is: 1 January 2026.
const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// cronexpr looks for a moment for four years, in which no 29 February may come, or none that is a Sunday. In seven
/// times four years each weekday has its 29 February.
const WINDOWS: i32 = 7;
const WINDOW: SignedDuration = SignedDuration::from_hours(24 * 4 * 365);

/// Here clocks are changed by half an hour: with that cronexpr 1.7.0 counts hours in circles, and never returns.
const HALF_HOURS: [&str; 2] = ["Australia/Lord_Howe", "Australia/LHI"];

/// Whether the schedule can be understood, and its time ever comes.
pub fn check(schedule: &ScheduleTrigger) -> Result<(), String> {
    let first = moments(schedule, START)?.next();
    first.map(drop).ok_or_else(|| {
        let cron = &schedule.cron;
        format!("the time {cron} never comes: no month has that day, or no day that hour")
    })
}

fn parse(schedule: &ScheduleTrigger) -> Result<cronexpr::Crontab, String> {
    let text = format!("{} {}", schedule.cron, schedule.time_zone);
    let crontab = cronexpr::parse_crontab(&text).map_err(|e| {
        e.to_string()
            .lines()
            .next_back()
            .unwrap_or("unreadable")
            .trim_start_matches([' ', '^'])
            .to_owned()
    })?;
    if names_the_last_day(schedule) {
        // cronexpr 1.7.0 compares the next day's month with this one's: none is later than December.
        let message = "L, for the last day, would miss every December: name the days in triggers of their own, such as \
            \"0 3 31 1,3,5,7,8,10,12 *\" and \"0 3 30 4,6,9,11 *\", or write 5#4 for the fourth Friday";
        return Err(message.to_owned());
    }
    let here = |zone: &&str| zone.eq_ignore_ascii_case(&schedule.time_zone);
    if HALF_HOURS.iter().any(here) {
        let zone = &schedule.time_zone;
        return Err(format!(
            "in {zone} clocks are changed by half an hour, which no schedule can follow: take Australia/Sydney or UTC"
        ));
    }
    Ok(crontab)
}

/// Of the five fields two may hold an L; the one before the last may hold JUL.
fn names_the_last_day(schedule: &ScheduleTrigger) -> bool {
    let mut fields = schedule.cron.split_ascii_whitespace().enumerate();
    fields.any(|(number, field)| number != 3 && field.contains('L'))
}

/// The moments after this one, in their order.
fn moments(schedule: &ScheduleTrigger, after: Timestamp) -> Result<impl Iterator<Item = Timestamp>, String> {
    let crontab = parse(schedule)?;
    let hours = schedule.cron.split_ascii_whitespace().nth(1);
    let any_hour = hours.is_some_and(|hours| hours.starts_with('*'));
    let mut from = after;
    let all = iter::from_fn(move || {
        let at = search(&crontab, from)?;
        from = at.timestamp();
        Some(at)
    });
    // In the night in which clocks are set back an hour comes twice: who named it meant one of them.
    Ok(all
        .filter(move |at| any_hour || !was_before(at))
        .map(|at| at.timestamp()))
}

fn search(crontab: &cronexpr::Crontab, after: Timestamp) -> Option<Zoned> {
    let mut starts = (0..WINDOWS).map(|number| after + WINDOW * number);
    starts.find_map(|start| crontab.find_next(start).ok())
}

/// Whether clocks showed this time before, and were set back since.
fn was_before(at: &Zoned) -> bool {
    let shown = at.time_zone().to_ambiguous_timestamp(at.datetime());
    shown.earlier().is_ok_and(|first| first < at.timestamp())
}

/// The first moment after this one.
pub fn next(schedule: &ScheduleTrigger, after: Timestamp) -> Option<Timestamp> {
    moments(schedule, after).ok()?.next()
}

/// The last moment in (after, now] that is not older than the starting deadline.
pub fn due(schedule: &ScheduleTrigger, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let oldest = now - SignedDuration::from_secs(schedule.starting_deadline_seconds.clamp(0, 604_800));
    // At most one moment a minute: the deadline bounds them.
    let all = moments(schedule, after.max(oldest)).ok()?;
    all.take_while(|at| *at <= now).last()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use jiff::tz;

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
        let why = check(&schedule("0 25 * * *", "UTC")).unwrap_err();
        assert_eq!(why, "value must be in range 0..=23; found 25");
        assert!(check(&schedule("0 3 * * *", "Europe/Nowhere")).is_err());
    }

    #[test]
    fn a_time_that_never_comes_is_refused_and_one_that_seldom_comes_is_not() {
        for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 3 31W 2 *"] {
            let why = check(&schedule(never, "Europe/Zurich")).unwrap_err();
            assert!(why.contains(never) && why.contains("never comes"), "{why}");
        }
        for seldom in ["0 3 29 2 *", "0 3 29 2 */7", "0 3 31 12 *", "0 3 * JUL *"] {
            assert_eq!(check(&schedule(seldom, "Europe/Zurich")), Ok(()), "{seldom}");
        }
        // A 29 February that is a Sunday, and the one after the year 2100, which has none.
        let sunday = schedule("0 3 29 2 */7", "UTC");
        assert_eq!(next(&sunday, START), Some(at("2032-02-29T03:00:00Z")));
        let leap = schedule("0 3 29 2 *", "UTC");
        assert_eq!(
            next(&leap, at("2096-03-01T00:00:00Z")),
            Some(at("2104-02-29T03:00:00Z"))
        );
    }

    #[test]
    fn the_last_day_would_miss_december_and_is_refused() {
        for last in ["0 3 L * *", "0 3 15,L * *", "0 3 * * 5L", "0 3 * * FRIL"] {
            let why = check(&schedule(last, "UTC")).unwrap_err();
            assert!(why.contains("December") && why.contains("5#4"), "{why}");
        }
    }

    #[test]
    fn a_zone_in_which_hours_are_counted_in_circles_is_refused() {
        for zone in ["Australia/Lord_Howe", "australia/lord_howe"] {
            let nightly = schedule("0 5 * * *", zone);
            assert!(check(&nightly).unwrap_err().contains("half an hour"), "{zone}");
            assert_eq!(next(&nightly, at("2026-04-04T12:00:00Z")), None);
        }
    }

    #[test]
    fn in_every_zone_that_is_taken_the_search_for_a_moment_ends() {
        for zone in tz::db().available() {
            let (ended, end) = mpsc::channel();
            let name = zone.to_string();
            thread::spawn(move || {
                let changes = tz::TimeZone::get(&name).expect("a zone");
                let changes = changes.following(START).take(2).map(|c| c.timestamp());
                for change in changes.chain([START]) {
                    for cron in ["0 5 * * *", "30 * * * *"] {
                        let before = change - SignedDuration::from_hours(5);
                        let trigger = schedule(cron, &name);
                        let all = moments(&trigger, before);
                        let found = all.map_or(0, |all| all.take(8).count());
                        assert!(found == 8 || name.starts_with("Australia/L"), "{cron} {name}: {found}");
                    }
                }
                ended.send(()).expect("somebody waits");
            });
            let ends = end.recv_timeout(Duration::from_secs(20));
            assert_eq!(ends, Ok(()), "{zone}");
        }
    }

    #[test]
    fn an_hour_that_comes_twice_in_a_night_fires_once() {
        // On 25 October 2026 clocks are set back from three to two.
        let nightly = schedule("30 2 * * *", "Europe/Zurich");
        let first = at("2026-10-25T00:30:00Z");
        assert_eq!(next(&nightly, at("2026-10-24T12:00:00Z")), Some(first));
        assert_eq!(next(&nightly, first), Some(at("2026-10-26T01:30:00Z")));
        assert_eq!(due(&nightly, first, at("2026-10-25T01:59:00Z")), None);
        // Who names no hour means all of them.
        let hourly = schedule("30 * * * *", "Europe/Zurich");
        assert_eq!(next(&hourly, first), Some(at("2026-10-25T01:30:00Z")));
    }
}
