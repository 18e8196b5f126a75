//! Gives the index's threads a low priority: nobody waits for the index, so on few cores others run
//! first.

/// Nice value of the index's threads: about a tenth of a contended core. The planned peak takes 9 %
/// of a core, and an index that lags for minutes holds up new orders.
const NICENESS: i32 = 10;

/// Lowers the priority of this thread and of those that it starts.
pub(super) fn lower_priority() {
    // On Linux the nice value belongs to the thread (setpriority(2), notes). Raising it is always
    // allowed.
    let set = rustix::process::setpriority_process(None, NICENESS);
    debug_assert!(set.is_ok(), "every thread may lower its priority: {set:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_lower_priority_is_inherited_by_the_threads_it_starts_only() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let lowered = thread::spawn(move || {
            lower_priority();
            (niceness(), thread::spawn(niceness).join().unwrap())
        });
        assert_eq!(lowered.join().unwrap(), (NICENESS, NICENESS));
        assert_eq!(niceness(), before);
    }
}
