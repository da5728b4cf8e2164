//! How much memory one part of a file may use. Lengths in a file may be wrong, and a failed allocation ends the
//! process; so a length is checked here before it is used.

use std::sync::OnceLock;

/// The limit where the amount of memory is unknown.
const UNKNOWN: u64 = 16 << 30;

/// Bytes that one part of a file (a column of a row group, a baseline file) may take: half of the memory available to
/// this process: the machine's memory, the limit of its container, and the limit on its address space.
pub fn max_part_bytes() -> u64 {
    static LARGEST: OnceLock<u64> = OnceLock::new();
    *LARGEST.get_or_init(|| {
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].map(number);
        let all = [machine(), address_space(), container[0], container[1]];
        all.into_iter().flatten().min().unwrap_or(UNKNOWN) / 2
    })
}

/// Memory of the machine.
fn machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(unix)]
fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

#[cfg(not(unix))]
fn address_space() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_is_at_most_half_of_the_memory_of_the_machine() {
        let machine = super::machine().unwrap();
        assert!((1 << 20..=machine / 2).contains(&super::max_part_bytes()));
    }
}
