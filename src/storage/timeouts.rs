//! How long an operation on an object store is waited for: one budget, whatever the server does.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::remote::StorageFailure;
use crate::address::sanitized;

/// Names the time after which a request is tried again, for example `30s`; after three times as long the operation has failed.
const VARIABLE: &str = "DRIFTSWEEP_IO_TIMEOUT";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// A store that has not answered so many operations in a row is given [`SHORT_TIMEOUT`] until it answers again: a night does not wait
/// for it once for each of its files.
const MAX_UNANSWERED: u32 = 3;
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Requests run here; the threads that count wait for them.
static RUNTIME: LazyLock<std::io::Result<Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build());

/// How many operations in a row each store has not answered, and what went wrong with the first of them.
static UNANSWERED: Mutex<Option<HashMap<String, (u32, String)>>> = Mutex::new(None);

/// The time after which a request is tried again.
pub fn timeout() -> Result<Duration, StorageFailure> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(DEFAULT_TIMEOUT) };
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|timeout| Duration::try_from(timeout).ok());
    parsed.filter(|timeout| !timeout.is_zero() && *timeout <= MAX_TIMEOUT).ok_or_else(|| {
        StorageFailure::Final(format!("{VARIABLE}: '{text}' is not a time such as 30s, of at most a day"))
    })
}

/// Waits for an operation on what is at an address.
pub fn wait<T>(address: &str, operation: impl Future<Output = object_store::Result<T>>) -> Result<T, StorageFailure> {
    wait_after(address, operation, &Mutex::new(None))
}

/// Waits for an operation: attempts, redirects, pauses between attempts and the body that comes are all part of it. `last` is
/// what went wrong in it so far.
pub fn wait_after<T>(
    address: &str,
    operation: impl Future<Output = object_store::Result<T>>,
    last: &Mutex<Option<String>>,
) -> Result<T, StorageFailure> {
    let whole = 3 * timeout()?;
    let runtime = RUNTIME.as_ref().map_err(|e| StorageFailure::Other(e.to_string()))?;
    let store = store(address);
    let (times, before) = locked(&UNANSWERED).get_or_insert_default().get(&store).cloned().unwrap_or_default();
    let impatient = times >= MAX_UNANSWERED;
    let most = if impatient { whole.min(SHORT_TIMEOUT) } else { whole };
    // The timer is made by the runtime, so inside of it.
    let done = match runtime.block_on(async { tokio::time::timeout(most, operation).await }) {
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
        // That there is no such object, or no right to it, is an answer.
        _ => drop(locked(&UNANSWERED).get_or_insert_default().remove(&store)),
    }
    done
}

/// Notes that an operation on a store has failed.
fn failed(store: String, reason: &str) {
    let mut unanswered = locked(&UNANSWERED);
    let (times, _) = unanswered.get_or_insert_default().entry(store).or_insert_with(|| (0, sanitized(reason, &[])));
    *times = times.saturating_add(1);
}

/// The part of an address that says which store it is.
fn store(address: &str) -> String {
    address.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
}

/// What is behind a lock. A thread that has failed leaves nothing half done there.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
