//! When the API server asks to be left alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

/// No answer keeps anybody waiting for longer.
const LONGEST: Duration = Duration::from_secs(300);

/// Until when what the API server refused, because it is busy or away, is not tried again.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    /// Notes what an answer says in `Retry-After`, in whole seconds, as the API server does (RFC 9110, 10.2.3).
    pub fn answered(&self, status: StatusCode, headers: &HeaderMap) {
        if !Self::concerns(status.as_u16()) {
            return;
        }
        let said = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let Some(seconds) = said.and_then(|seconds| seconds.trim().parse().ok()) else {
            return;
        };
        let until = Instant::now() + Duration::from_secs(seconds).min(LONGEST);
        let mut noted = self.noted();
        *noted = (*noted).max(Some(until));
    }

    /// How long an object is not to be tried again whose request was answered with this code.
    #[must_use]
    pub fn pause(&self, code: u16) -> Duration {
        let until = self.noted().filter(|_| Self::concerns(code));
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    const fn concerns(code: u16) -> bool {
        matches!(code, 429 | 503)
    }

    fn noted(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn after(status: StatusCode, said: &'static str) -> Throttle {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(said))]);
        let throttle = Throttle::default();
        throttle.answered(status, &headers);
        throttle
    }

    #[test]
    fn who_is_asked_to_wait_waits_so_long_and_no_longer() {
        let asked = after(StatusCode::TOO_MANY_REQUESTS, "30").pause(429);
        assert!(
            asked > Duration::from_secs(29) && asked <= Duration::from_secs(30),
            "{asked:?}"
        );
        assert!(after(StatusCode::SERVICE_UNAVAILABLE, "9999").pause(503) <= LONGEST);
        assert_eq!(after(StatusCode::TOO_MANY_REQUESTS, "30").pause(500), Duration::ZERO);
        for (status, said) in [(StatusCode::OK, "30"), (StatusCode::TOO_MANY_REQUESTS, "tomorrow")] {
            assert_eq!(after(status, said).pause(429), Duration::ZERO);
        }
        let throttle = after(StatusCode::TOO_MANY_REQUESTS, "30");
        throttle.answered(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new());
        assert!(
            throttle.pause(429) > Duration::from_secs(29),
            "who says nothing takes nothing back"
        );
    }
}
