//! Timeouts of operations on object stores: one time limit, whatever the server does.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use super::remote::StorageFailure;
use crate::address::sanitized;
use crate::duration::Length;
use crate::runtime::BlockingRuntime;

/// The variable for the timeout after which a request is retried, for example `30s`; after three times this time the
/// operation fails.
const VARIABLE: &str = "DRIFTSWEEP_IO_TIMEOUT";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// After this many operations without an answer a store gets only [`SHORT_TIMEOUT`] until it answers again: a sweep
/// does not wait for each of its files.
const MAX_UNANSWERED: u32 = 3;
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Requests run here; the threads that count wait for them.
static RUNTIME: LazyLock<std::io::Result<BlockingRuntime>> = LazyLock::new(|| BlockingRuntime::with_threads(2));

/// The number of consecutive operations without an answer per store, and the first error.
static UNANSWERED: Mutex<Option<HashMap<String, (u32, String)>>> = Mutex::new(None);

/// The timeout after which a request is retried.
pub fn timeout() -> Result<Duration, StorageFailure> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(DEFAULT_TIMEOUT) };
    parsed(&text).map_err(|reason| StorageFailure::Final(format!("{VARIABLE} = '{text}': {reason}")))
}

fn parsed(text: &str) -> Result<Duration, String> {
    let timeout = text.parse::<Length>()?.unsigned();
    let is_possible = !timeout.is_zero() && timeout <= MAX_TIMEOUT;
    is_possible.then_some(timeout).ok_or_else(|| "it must be above 0 and at most a day, for example 30s".into())
}

/// Waits for an operation on an address.
pub fn wait<T: Send>(
    address: &str,
    operation: impl Future<Output = object_store::Result<T>> + Send,
) -> Result<T, StorageFailure> {
    wait_after(address, operation, &Mutex::new(None))
}

/// Waits for an operation: including attempts, redirects, delays and the response body. `last` is the last error so
/// far.
pub fn wait_after<T: Send>(
    address: &str,
    operation: impl Future<Output = object_store::Result<T>> + Send,
    last: &Mutex<Option<String>>,
) -> Result<T, StorageFailure> {
    let whole = 3 * timeout()?;
    let runtime = RUNTIME.as_ref().map_err(|e| StorageFailure::Other(e.to_string()))?;
    let store = store(address);
    let (times, before) = locked(&UNANSWERED).get_or_insert_default().get(&store).cloned().unwrap_or_default();
    let impatient = times >= MAX_UNANSWERED;
    let most = if impatient { whole.min(SHORT_TIMEOUT) } else { whole };
    // The timer is made by the runtime, so inside of it.
    let done = match runtime.wait(async { tokio::time::timeout(most, operation).await }) {
        Ok(done) => done.map_err(|e| StorageFailure::of(&e)),
        Err(_) => {
            let late = format!("the store cannot be reached or is too slow: not done after {most:?}");
            let last = locked(last).take().map_or(String::new(), |reason| format!("; before that: {reason}"));
            let reason = match impatient {
                true => format!("{late}; {times} operations had failed before, the first of them so: {before}"),
                false => format!("{late}, which is three times {VARIABLE}{last}"),
            };
            failed(store, &reason);
            return Err(StorageFailure::Final(reason));
        }
    };
    match &done {
        Err(StorageFailure::Other(reason)) => failed(store, reason),
        // A missing object, or missing permission, is an answer.
        _ => drop(locked(&UNANSWERED).get_or_insert_default().remove(&store)),
    }
    done
}

/// Records that an operation on a store has failed.
fn failed(store: String, reason: &str) {
    let mut unanswered = locked(&UNANSWERED);
    let (times, _) = unanswered.get_or_insert_default().entry(store).or_insert_with(|| (0, sanitized(reason, &[])));
    *times = times.saturating_add(1);
}

/// The part of an address that says which store it is.
fn store(address: &str) -> String {
    address.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

/// The value of a mutex. A panicked thread leaves it in a valid state.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_takes_a_length_of_time_of_at_most_a_day() {
        for (text, seconds) in [("1d", 86_400), ("90m", 5_400), ("1h 30m", 5_400), ("30s", 30), ("PT30S", 30)] {
            assert_eq!(parsed(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, words) in [
            ("0s", "above 0"),
            ("25h", "at most a day"),
            ("-1h", "not a length of time"),
            ("1y", "not a length of time"),
            ("99999999d", "not a length of time"),
            ("5", "not a length of time"),
            ("", "not a length of time"),
        ] {
            assert!(parsed(text).is_err_and(|reason| reason.contains(words)), "{text}");
        }
    }
}
