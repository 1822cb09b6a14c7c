//! The terminal: colours, text that is safe to print, sizes that people read, and progress.

use std::{
    borrow::Cow,
    io::{self, Write},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Headings.
pub(crate) const BOLD: Style = Style::new().bold();
/// What matters less.
pub(crate) const DIM: Style = Style::new().dimmed();
/// What was chosen, or is right.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What failed.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Names that a user may type.
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();

/// The styles of `--help`.
pub(crate) const HELP: clap::builder::Styles = clap::builder::Styles::styled()
    .header(BOLD)
    .usage(BOLD)
    .literal(NAME)
    .placeholder(Style::new())
    .error(BAD)
    .valid(GOOD)
    .invalid(BAD);

/// Prints to stdout, without colour unless that is a terminal.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints one line to stderr. Where nobody reads that any more, there is nobody to tell.
pub(crate) fn note(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Prints one value as JSON to stdout.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Whether stdout takes colour: it is a terminal that can, and nothing such as `NO_COLOR` says otherwise.
pub(crate) fn has_color() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// The width of the terminal; 80 where there is none.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0))
}

/// Text from a file or a user, fit for one line of a terminal: control characters are escaped, so that a name cannot
/// move the cursor or change the colour.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// A name from a file, clean and cut where it is very long.
pub(crate) fn short(name: &str) -> Cow<'_, str> {
    const LONGEST: usize = 60;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => Cow::Owned(format!("{}...", clean(&name[..end]))),
        None => clean(name),
    }
}

/// `1.5 MB`: powers of a thousand.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "";
    for next in UNITS {
        value /= 1000.0;
        unit = next;
        if value < 999.95 {
            break;
        }
    }
    format!("{value:.1} {unit}")
}

/// `1 op`, `2 ops`.
pub(crate) fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Lines of columns, each as wide as its widest cell, two blanks apart and indented by two.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(format!("  {}", cells.join("  ")).trim_end());
        text.push('\n');
    }
    text
}

/// Progress on stderr: nothing within the first second, and nothing unless that is a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    /// Dropping it ends the wait.
    _waiting: Sender<()>,
}

impl Progress {
    /// Work of unknown length.
    pub(crate) fn spinner(message: impl Into<Cow<'static, str>>) -> Progress {
        Progress::start(ProgressBar::no_length(), "{spinner} {msg} {elapsed}", message)
    }

    /// Work on this many bytes.
    pub(crate) fn bytes(total: u64, message: impl Into<Cow<'static, str>>) -> Progress {
        Progress::start(ProgressBar::new(total), "{msg} {bar:30} {bytes}/{total_bytes} {eta}", message)
    }

    /// The bar, to tell it how far the work is.
    pub(crate) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    fn start(bar: ProgressBar, template: &str, message: impl Into<Cow<'static, str>>) -> Progress {
        const PATIENCE: Duration = Duration::from_secs(1);
        bar.set_draw_target(ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template(template).expect("templates are ours"));
        bar.set_message(message);
        let (waiting, wait) = mpsc::channel();
        let shown = bar.clone();
        thread::spawn(move || {
            if wait.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                shown.set_draw_target(ProgressDrawTarget::stderr());
                shown.enable_steady_tick(Duration::from_millis(100));
            }
        });
        Progress { bar, _waiting: waiting }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(clean("conv_1"), "conv_1");
        assert_eq!(clean("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(short(&"x".repeat(61)), format!("{}...", "x".repeat(60)));
    }

    #[test]
    fn sizes_are_short() {
        for (count, expected) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_950, "1.0 MB"), (52_428_800, "52.4 MB")]
        {
            assert_eq!(bytes(count), expected);
        }
        assert_eq!(bytes(u64::MAX), "18446.7 PB");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(table(&rows), "  a     1\n  long\n");
    }
}
