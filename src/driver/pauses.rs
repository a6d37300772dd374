//! How long until an object is looked at again.

use std::time::Duration;

use flywheel_engine::decision::Wait;
use jiff::Timestamp;

const SECOND: Duration = Duration::from_secs(1);

/// A pause that doubles with every time in a row but the first.
pub(super) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(12).saturating_sub(1)).min(longest)
}

/// When to look again at what waits: at the latest when the stores are not believed any more. It is `now`, whenever the object
/// was read: its turn may have been long in coming.
pub(super) fn until_looked_again(wait: &Wait, trusted_for: Duration, now: Timestamp) -> Duration {
    // Whole seconds, and not before the time is over.
    let begun = u64::from(trusted_for.subsec_nanos() > 0);
    let longest = Duration::from_secs(trusted_for.as_secs().saturating_add(begun)).max(SECOND);
    wait.until.map_or(longest, |until| {
        let left = until.duration_since(now);
        let seconds = left.as_secs() + i64::from(left.subsec_nanos() > 0);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).clamp(SECOND, longest)
    })
}
