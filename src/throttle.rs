//! When the API server asks to be left alone.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use kube::core::Status;

/// No answer keeps anybody waiting for longer: a version may have to go back.
const LONGEST: Duration = Duration::from_secs(30);

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
        *self.noted() = Some(Instant::now() + Duration::from_secs(seconds).min(LONGEST));
    }

    /// How long an object is not to be tried again whose request was answered so. Of answers that are no object only the last
    /// header is known.
    #[must_use]
    pub fn pause(&self, answer: &Status) -> Duration {
        if !Self::concerns(answer.code) {
            return Duration::ZERO;
        }
        let said = answer.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let heard = self
            .noted()
            .map(|until| until.saturating_duration_since(Instant::now()));
        heard
            .unwrap_or_default()
            .max(Duration::from_secs(said.into()).min(LONGEST))
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

    fn refused(code: u16) -> Status {
        Status::failure("busy", "TooManyRequests").with_code(code)
    }

    #[test]
    fn who_is_asked_to_wait_waits_so_long_and_no_longer() {
        let asked = after(StatusCode::TOO_MANY_REQUESTS, "20").pause(&refused(429));
        assert!(
            asked > Duration::from_secs(19) && asked <= Duration::from_secs(20),
            "{asked:?}"
        );
        let long = after(StatusCode::SERVICE_UNAVAILABLE, "9999").pause(&refused(503));
        assert!(long <= LONGEST && long > LONGEST / 2, "{long:?}");
        let other = after(StatusCode::TOO_MANY_REQUESTS, "20").pause(&refused(500));
        assert_eq!(other, Duration::ZERO);
        for (status, said) in [(StatusCode::OK, "20"), (StatusCode::TOO_MANY_REQUESTS, "tomorrow")] {
            assert_eq!(after(status, said).pause(&refused(429)), Duration::ZERO);
        }
    }

    #[test]
    fn what_was_said_last_counts_and_what_the_answer_itself_says() {
        let throttle = after(StatusCode::TOO_MANY_REQUESTS, "20");
        throttle.answered(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new());
        assert!(
            throttle.pause(&refused(429)) > Duration::from_secs(19),
            "nothing was said"
        );
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("1"))]);
        throttle.answered(StatusCode::TOO_MANY_REQUESTS, &headers);
        assert!(throttle.pause(&refused(429)) <= Duration::from_secs(1));
        let mut answer = refused(429);
        answer.details = Some(serde_json::from_value(serde_json::json!({ "retryAfterSeconds": 10 })).unwrap());
        assert_eq!(throttle.pause(&answer), Duration::from_secs(10));
    }
}
