//! Memory: what the kernel has left, what the control groups around this process let it have, and how long work waits
//! for memory.
//!
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html>, <https://docs.kernel.org/accounting/psi.html>.

use std::path::{Path, PathBuf};

use super::{
    super::iokit::{MemoryPressure, MemoryStatus},
    files::{number, text, value},
};

pub(super) fn read(root: &Path) -> MemoryStatus {
    let info = text(&root.join("proc/meminfo")).unwrap_or_default();
    let mut total = kibibytes(&info, "MemTotal:");
    let mut available = kibibytes(&info, "MemAvailable:");
    let mut waits = root.join("proc/pressure/memory");
    let mut limited = String::new();
    for group in Group::around_this_process(root) {
        let Some(limit) = group.limit() else { continue };
        if total.is_none_or(|total| limit < total) {
            total = Some(limit);
            waits = group.folder.join("memory.pressure");
            limited = format!("; the control group /{} limits it", group.path);
        }
        let left = group.used().map(|used| limit.saturating_sub(used));
        available = available.into_iter().chain(left).min();
    }
    let (pressure, reason) = judge(total, available, &text(&waits).unwrap_or_default());
    MemoryStatus { total_bytes: total, available_bytes: available, pressure, reason: reason + &limited }
}

/// From which share of the last 10 seconds on, in which some task waited for memory, there is a warning: where systemd
/// tells services of pressure by default (`DefaultMemoryPressureThresholdSec`, 200 ms of 2 s).
const SOME_WAIT: f64 = 10.0;
/// From which share on, in which every task waited, it is critical: where systemd-oomd ends processes by default.
const ALL_WAIT: f64 = 60.0;
/// Below which shares of the memory it is critical, and there is a warning: where earlyoom ends processes by default,
/// at once and politely.
const LITTLE: [f64; 2] = [5.0, 10.0];

/// The pressure, and why.
fn judge(total: Option<u64>, available: Option<u64>, waits: &str) -> (MemoryPressure, String) {
    let left = total.zip(available).filter(|(total, _)| *total > 0);
    let left = left.map(|(total, available)| available as f64 / total as f64 * 100.0);
    let some = waited(waits, "some");
    let is_left = |left: f64| format!("{left:.0} % of the memory is left");
    let waits_for = |who: &str, share: f64| format!("{who} waited for memory in {share:.0} % of the last 10 s");
    if let Some(share) = waited(waits, "full").filter(|share| *share >= ALL_WAIT) {
        return (MemoryPressure::Critical, waits_for("every task", share));
    }
    if let Some(left) = left.filter(|left| *left < LITTLE[0]) {
        return (MemoryPressure::Critical, is_left(left));
    }
    if let Some(share) = some.filter(|share| *share >= SOME_WAIT) {
        return (MemoryPressure::Warning, waits_for("a task", share));
    }
    match left {
        Some(left) if left < LITTLE[1] => (MemoryPressure::Warning, is_left(left)),
        Some(left) => (MemoryPressure::Normal, is_left(left)),
        None if some.is_some() => (MemoryPressure::Normal, "hardly any task waited for memory".to_owned()),
        None => (MemoryPressure::Unknown, "the kernel tells neither what is left nor what waits for it".to_owned()),
    }
}

/// A share out of a file of pressure: `some avg10=0.22 avg60=0.17 avg300=1.11 total=58761459`.
fn waited(waits: &str, who: &str) -> Option<f64> {
    value(waits, who)?.strip_prefix("avg10=")?.parse().ok().filter(|share| (0.0..=100.0).contains(share))
}

fn kibibytes(table: &str, key: &str) -> Option<u64> {
    value(table, key)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A control group that this process is in.
struct Group {
    folder: PathBuf,
    /// Below the mount, to show.
    path: String,
    version: &'static Version,
}

/// Where a version of control groups keeps its numbers.
struct Version {
    mount: &'static str,
    limits: &'static [&'static str],
    used: &'static str,
    /// What the kernel takes back first, in `memory.stat`.
    reclaimable: &'static str,
}

const V1: Version = Version {
    mount: "sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};
const V2: Version = Version {
    mount: "sys/fs/cgroup",
    limits: &["memory.max", "memory.high"],
    used: "memory.current",
    reclaimable: "inactive_file",
};

/// What the first version writes for no limit is a little less than 2^63.
const NO_LIMIT: u64 = 1 << 60;

impl Group {
    /// The groups from the process's own up to the mount. Those that a container does not see have no files.
    fn around_this_process(root: &Path) -> Vec<Group> {
        let groups = text(&root.join("proc/self/cgroup")).unwrap_or_default();
        let found = |version: &'static Version, matches: &dyn Fn(&str, &str) -> bool| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':');
                let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                matches(id, controllers).then_some((version, path))
            })
        };
        let first = found(&V1, &|_, controllers| controllers.split(',').any(|controller| controller == "memory"));
        let Some((version, path)) = first.or_else(|| found(&V2, &|id, _| id == "0")) else { return Vec::new() };
        // A path that leads out of the container's groups is of no use in it.
        let path = if path.contains("..") { "" } else { path.trim_start_matches('/') };
        let mount = root.join(version.mount);
        let group = |path: &Path| Group { folder: mount.join(path), path: path.display().to_string(), version };
        Path::new(path).ancestors().map(group).collect()
    }

    /// The lowest limit in bytes; `None` where there is none.
    fn limit(&self) -> Option<u64> {
        let limits = self.version.limits.iter().filter_map(|file| self.bytes(file));
        limits.min().filter(|limit| *limit < NO_LIMIT)
    }

    /// What is used and does not go by itself. Files that were read long ago, such as a model's, do.
    fn used(&self) -> Option<u64> {
        let stat = text(&self.folder.join("memory.stat")).unwrap_or_default();
        let reclaimable = value(&stat, self.version.reclaimable).and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        Some(self.bytes(self.version.used)?.saturating_sub(reclaimable))
    }

    fn bytes(&self, file: &str) -> Option<u64> {
        u64::try_from(number(&self.folder.join(file))?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::files::tests::machine, *};

    const GIB: u64 = 1 << 30;

    /// What a machine of these files is found to have: total and available in GiB, the pressure, and the end of why.
    fn check(files: &[(&str, &str)], total: Option<u64>, available: Option<u64>, pressure: MemoryPressure, why: &str) {
        let found = read(machine(files).path());
        let gib = |bytes: Option<u64>| bytes.map(|bytes| bytes / GIB);
        assert_eq!((gib(found.total_bytes), gib(found.available_bytes)), (total, available), "{found:?}");
        assert_eq!(found.pressure, pressure, "{found:?}");
        assert!(found.reason.contains(why), "{found:?}");
    }

    const INFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:       33554432 kB\nMemFree: 1 kB\nMemAvailable:   25165824 kB\n");
    const CALM: &str =
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

    #[test]
    fn machines() {
        use MemoryPressure::*;
        check(&[INFO, ("proc/pressure/memory", CALM)], Some(32), Some(24), Normal, "75 % of the memory is left");
        check(&[INFO], Some(32), Some(24), Normal, "75 %");
        let left = |share| judge(Some(100), Some(share), "").0;
        assert_eq!([4, 5, 9, 10].map(left), [Critical, Warning, Warning, Normal]);
    }

    #[test]
    fn waiting_tells() {
        use MemoryPressure::*;
        let check = |some: &str, full: &str, pressure, why| {
            let waits =
                format!("some avg10={some} avg60=0 avg300=0 total=1\nfull avg10={full} avg60=0 avg300=0 total=1\n");
            check(&[INFO, ("proc/pressure/memory", &waits)], Some(32), Some(24), pressure, why);
        };
        check("9.99", "0.00", Normal, "75 %");
        check("10.00", "4.00", Warning, "a task waited for memory in 10 %");
        check("90.00", "59.99", Warning, "a task waited");
        check("90.00", "60.00", Critical, "every task waited for memory in 60 %");
    }

    #[test]
    fn containers() {
        use MemoryPressure::*;
        let limited = |current: &'static str| {
            vec![
                INFO,
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", "4294967296\n"),
                ("sys/fs/cgroup/memory.high", "max\n"),
                ("sys/fs/cgroup/memory.current", current),
                ("sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 1073741824\nactive_file 7\n"),
                ("proc/pressure/memory", "some avg10=99.00 avg60=0 avg300=0 total=1\n"),
                ("sys/fs/cgroup/memory.pressure", CALM),
            ]
        };
        check(
            &limited("3221225472\n"),
            Some(4),
            Some(2),
            Normal,
            "50 % of the memory is left; the control group / limits it",
        );
        check(&limited("5368709120\n"), Some(4), Some(0), Critical, "0 % of the memory is left");
        check(&limited("0\n"), Some(4), Some(4), Normal, "100 %");

        let nested = [
            INFO,
            ("proc/self/cgroup", "0::/a.slice/b.scope\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.max", "max\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.high", "8589934592\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.current", "1073741824\n"),
            // Wider, but its neighbours have used most of it.
            ("sys/fs/cgroup/a.slice/memory.max", "17179869184\n"),
            ("sys/fs/cgroup/a.slice/memory.current", "15032385536\n"),
        ];
        check(&nested, Some(8), Some(2), Normal, "the control group /a.slice/b.scope limits it");

        let first_version = [
            INFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1f\n0::/y\n"),
            // The path is the host's, and the container has its own group at the mount.
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 0\n"),
        ];
        check(&first_version, Some(2), Some(1), Normal, "the control group / limits it");
    }

    #[test]
    fn groups_that_do_not_limit() {
        use MemoryPressure::*;
        let check = |group: &str, file: &str, limit: &str| {
            let file = format!("sys/fs/cgroup/{file}");
            check(&[INFO, ("proc/self/cgroup", group), (&file, limit)], Some(32), Some(24), Normal, "is left");
            let found = read(machine(&[INFO, ("proc/self/cgroup", group), (&file, limit)]).path());
            assert!(!found.reason.contains("limits"), "{found:?}");
        };
        check("0::/\n", "memory.max", "max\n");
        check("0::/\n", "memory.max", "68719476736\n");
        check("0::/\n", "memory.max", "34359738368\n");
        check("4:memory:/\n", "memory/memory.limit_in_bytes", "9223372036854771712\n");
        check("0::/\n", "memory.max", "-1\n");
        check("1:name=systemd:/\n", "memory.max", "1\n");
        check("garbage\n:::\n", "memory.max", "1\n");
        let unlimited = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        super::tests::check(&[("proc/self/cgroup", "4:memory:/\n"), unlimited], None, None, Unknown, "tells neither");
    }

    #[test]
    fn paths_do_not_lead_out() {
        let outside = [
            ("proc/self/cgroup", "0::/../../..\n"),
            ("memory.max", "1\n"),
            ("sys/fs/cgroup/memory.max", "2147483648\n"),
        ];
        check(&outside, Some(2), None, MemoryPressure::Unknown, "tells neither");
    }

    #[test]
    fn garbage_is_unknown() {
        use MemoryPressure::*;
        check(&[], None, None, Unknown, "tells neither");
        for info in [
            "",
            "MemTotal:\n",
            "MemTotal: many kB\n",
            "MemTotal: 99999999999999999999 kB\n",
            "MemTotal: 18446744073709551615 kB\n",
        ] {
            check(&[("proc/meminfo", info)], None, None, Unknown, "tells neither");
        }
        check(&[("proc/meminfo", "MemTotal: 0 kB\nMemAvailable: 0 kB\n")], Some(0), Some(0), Unknown, "tells neither");
        for waits in [
            "some\n",
            "some avg10=\n",
            "some avg10=NaN\n",
            "some avg10=-1\n",
            "some avg10=101\n",
            "full avg10=99\u{0}\n",
        ] {
            check(&[("proc/pressure/memory", waits)], None, None, Unknown, "tells neither");
        }
        check(&[("proc/pressure/memory", CALM)], None, None, Normal, "hardly any task");
    }
}
