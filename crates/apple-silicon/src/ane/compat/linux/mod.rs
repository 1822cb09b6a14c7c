//! Linux: what the kernel's own files tell.
//!
//! Each reader takes the root of the file system, so that tests can lay out a machine in a folder. The libraries
//! there are for this have their paths built in, and none reads trip points, adapters or what a control group has
//! left; the kernel's files are a number or a word each.

mod files;
mod memory;
mod power;
mod thermal;

use std::{convert::Infallible, path::Path};

use super::{
    coreml::CoreMlCapabilities,
    iokit::{MemoryStatus, PowerStatus, ThermalStatus},
};

/// No change is told, so that there is nothing to hold.
pub(super) type Observation = Infallible;

pub(super) fn capabilities() -> CoreMlCapabilities {
    read_capabilities(root())
}

pub(super) fn thermal() -> ThermalStatus {
    thermal::read(root())
}

pub(super) fn on_thermal_change(_: impl Fn(ThermalStatus) + Send + Sync + 'static) -> Option<Observation> {
    None
}

pub(super) fn power() -> PowerStatus {
    power::read(root())
}

pub(super) fn memory() -> MemoryStatus {
    memory::read(root())
}

fn root() -> &'static Path {
    Path::new("/")
}

fn read_capabilities(root: &Path) -> CoreMlCapabilities {
    CoreMlCapabilities {
        chip: chip(root),
        os_version: os_version(root),
        ..CoreMlCapabilities::cpu_only("Core ML is a part of macOS and iOS, and this is Linux")
    }
}

/// The name of the first processor. Arm's kernels do not tell it.
fn chip(root: &Path) -> Option<String> {
    let info = files::text(&root.join("proc/cpuinfo"))?;
    let (_, name) = info.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == "model name")?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn os_version(root: &Path) -> Option<String> {
    let release = files::text(&root.join("etc/os-release")).unwrap_or_default();
    let named = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let named = named.map(|name| name.trim().trim_matches(['"', '\'']).to_owned()).filter(|name| !name.is_empty());
    named.or_else(|| Some(format!("Linux {}", files::text(&root.join("proc/sys/kernel/osrelease"))?)))
}

#[cfg(test)]
mod tests {
    use super::{files::tests::machine, *};

    #[test]
    fn the_system_is_named() {
        let check = |files: &[(&str, &str)], chip: Option<&str>, os: Option<&str>| {
            let found = read_capabilities(machine(files).path());
            assert_eq!((found.chip.as_deref(), found.os_version.as_deref()), (chip, os));
            assert_eq!(found.supported_precisions, ["fp32"]);
        };
        let cpu = ("proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC 9B14\nflags\t\t: fpu\n");
        let kernel = ("proc/sys/kernel/osrelease", "6.18.0\n");
        let debian = ("etc/os-release", "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
        check(&[cpu, kernel, debian], Some("AMD EPYC 9B14"), Some("Debian GNU/Linux 12 (bookworm)"));
        check(&[("proc/cpuinfo", "processor\t: 0\nCPU part\t: 0xd0c\n"), kernel], None, Some("Linux 6.18.0"));
        check(&[("proc/cpuinfo", "model name\t:\n"), ("etc/os-release", "PRETTY_NAME=\n")], None, None);
        check(&[], None, None);
    }
}
