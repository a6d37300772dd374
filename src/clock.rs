//! The time of the API server, which is the same for every operator, whatever the clocks of their machines say.
//!
//! What one leader notes, such as when a step was entered, the next one compares with its own now: by clocks that disagree
//! by an hour, a step would end an hour early ([decision 8](../docs/decisions/0008-the-clock-of-the-api-server.md)).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::DATE;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// So long, and at most twice as long, an answer says what time it is.
const LASTS: Duration = Duration::from_secs(60);

/// What the answers of the API server say about the time.
#[derive(Debug)]
pub struct Clock {
    /// The monotonic clock, by which the time since an answer is known, counts from here.
    begun: Instant,
    heard: Mutex<Heard>,
}

/// By how much the API server is ahead of the monotonic clock, at least: an answer is older than its arrival, so whichever
/// says the most is nearest to the truth.
#[derive(Debug, Default)]
struct Heard {
    /// Since when the answers are the last ones.
    since: Duration,
    last: Option<Timestamp>,
    /// Of those before.
    before: Option<Timestamp>,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            heard: Mutex::default(),
        }
    }
}

impl Clock {
    /// Notes when an answer was given (RFC 9110, 6.6.1).
    pub fn answered(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        if let Some(at) = date.and_then(|date| rfc2822::parse(date).ok()) {
            self.heard().answered(at.timestamp(), self.begun.elapsed());
        }
    }

    /// Now, in whole seconds; by this machine's clock before the first answer.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let known = self.heard().at(self.begun.elapsed());
        let now = known.unwrap_or_else(Timestamp::now);
        Timestamp::from_second(now.as_second()).unwrap_or_default()
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn answered(&mut self, at: Timestamp, arrived: Duration) {
        let Ok(ahead) = at.checked_sub(arrived) else { return };
        let age = arrived.saturating_sub(self.since);
        if age >= LASTS {
            self.before = self.last.take().filter(|_| age < 2 * LASTS);
            self.since = arrived;
        }
        self.last = self.last.max(Some(ahead));
    }

    fn at(&self, moment: Duration) -> Option<Timestamp> {
        self.last.max(self.before)?.checked_add(moment).ok()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn said(date: &str) -> HeaderMap {
        HeaderMap::from_iter([(DATE, HeaderValue::from_str(date).unwrap())])
    }

    #[test]
    fn it_is_what_the_api_server_says_whatever_this_machine_does() {
        let clock = Clock::default();
        let own = clock.now();
        assert!(
            own.duration_since(Timestamp::now()).as_secs().abs() <= 1,
            "nobody answered yet"
        );
        for nonsense in ["", "yesterday"] {
            clock.answered(&said(nonsense));
        }
        clock.answered(&HeaderMap::new());
        assert!(clock.now() >= own);
        clock.answered(&said("Thu, 01 Jan 2026 10:00:00 GMT"));
        let passed = clock.now().duration_since(time("2026-01-01T10:00:00Z"));
        assert!((0..=5).contains(&passed.as_secs()), "{passed}");
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_does_not_turn_it_back() {
        let (mut heard, noon) = (Heard::default(), time("2026-01-01T12:00:00Z"));
        heard.answered(noon, SECOND);
        assert_eq!(heard.at(31 * SECOND), Some(noon + 30 * SECOND));
        heard.answered(noon + SECOND, 31 * SECOND);
        assert_eq!(heard.at(31 * SECOND), Some(noon + 30 * SECOND));
        heard.answered(noon + 32 * SECOND, 32 * SECOND);
        assert_eq!(
            heard.at(32 * SECOND),
            Some(noon + 32 * SECOND),
            "the first one was late"
        );
    }

    #[test]
    fn what_was_heard_long_ago_does_not_count_when_something_else_is_said() {
        let (mut heard, noon) = (Heard::default(), time("2026-01-01T12:00:00Z"));
        heard.answered(noon + 3600 * SECOND, SECOND);
        // Its clock was an hour ahead, and was set.
        for seconds in [30, 70, 100] {
            heard.answered(noon + seconds * SECOND, seconds * SECOND);
            assert!(heard.at(seconds * SECOND).unwrap() > noon + 3000 * SECOND, "{seconds}");
        }
        heard.answered(noon + 140 * SECOND, 140 * SECOND);
        assert_eq!(heard.at(140 * SECOND), Some(noon + 140 * SECOND));
    }

    #[test]
    fn the_time_goes_on_without_answers_and_begins_anew_with_the_next_one() {
        let (mut heard, noon) = (Heard::default(), time("2026-01-01T12:00:00Z"));
        heard.answered(noon, Duration::ZERO);
        assert_eq!(heard.at(900 * SECOND), Some(noon + 900 * SECOND));
        heard.answered(noon + 600 * SECOND, 900 * SECOND);
        assert_eq!(
            heard.at(900 * SECOND),
            Some(noon + 600 * SECOND),
            "the machine's own clock runs fast"
        );
    }
}
