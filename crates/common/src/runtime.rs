//! Waiting for asynchronous libraries in code that is not asynchronous; also where the caller runs inside of a tokio runtime of
//! its own, whose threads must not wait for another one.

use std::panic::resume_unwind;

use tokio::runtime::{Builder, Handle, Runtime};

/// A tokio runtime whose futures are waited for.
pub struct BlockingRuntime(Option<Runtime>);

impl BlockingRuntime {
    /// A runtime that works while its futures are waited for.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn current_thread() -> std::io::Result<Self> {
        Builder::new_current_thread().enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    /// A runtime with threads of its own.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn with_threads(threads: usize) -> std::io::Result<Self> {
        Builder::new_multi_thread().worker_threads(threads).enable_all().build().map(|runtime| Self(Some(runtime)))
    }

    /// Waits for a future.
    pub fn wait<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        let Some(runtime) = &self.0 else { unreachable!("it is taken by `drop` alone") };
        if Handle::try_current().is_err() {
            return runtime.block_on(future);
        }
        // Tokio refuses to wait on a thread that drives another runtime.
        let waited = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
        waited.unwrap_or_else(|panicked| resume_unwind(panicked))
    }
}

impl Drop for BlockingRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Tokio also refuses to wait for its threads on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_future_is_waited_for_inside_and_outside_of_a_runtime() {
        for runtime in [BlockingRuntime::current_thread(), BlockingRuntime::with_threads(1)] {
            let runtime = runtime.unwrap();
            let later = || async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                7
            };
            assert_eq!(runtime.wait(later()), 7);
            let callers = Builder::new_current_thread().build().unwrap();
            callers.block_on(async {
                assert_eq!(runtime.wait(later()), 7);
                drop(runtime);
            });
        }
    }
}
