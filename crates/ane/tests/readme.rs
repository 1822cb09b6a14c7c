//! The commands of README.md do what it says: each runs, and prints what stands below it.

use std::{fs, path::Path, process::Command};

#[test]
fn commands_run_and_print_what_the_readme_shows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::create_dir_all(root.join("target")).unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let commands = commands(&readme);
    assert!(commands.len() >= 8, "{commands:?}");
    for (command, shown) in commands {
        let mut words = command.split_whitespace();
        assert_eq!(words.next(), Some("ane"), "{command}");
        let done = Command::new(env!("CARGO_BIN_EXE_ane")).args(words).current_dir(&root).output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        if !shown.is_empty() {
            assert_eq!(String::from_utf8_lossy(&done.stdout).trim_end(), shown.trim_end(), "{command}");
        }
    }
}

/// Commands after a `$` in the console blocks, each with the lines below it.
fn commands(text: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => found.push((command, String::new())),
                None => {
                    let shown = &mut found.last_mut().expect("a block starts with a command").1;
                    shown.push_str(line);
                    shown.push('\n');
                }
            }
        }
    }
    found
}
