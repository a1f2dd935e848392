//! Shows the progress on standard error: a bar on a terminal, otherwise one line per part.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line of progress.
pub fn say(what: &str) {
    eprintln!("measure: {what}");
}

/// The progress of one part towards the end of its time.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// Announces `part`, which will take about `length`.
    pub fn start(part: &str, length: Duration) -> Progress {
        if !std::io::stderr().is_terminal() {
            say(&format!("{part}, about {} s", length.as_secs()));
            return Progress(None);
        }
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}")
            .expect("the template is valid");
        let bar = ProgressBar::new(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
            .with_style(style)
            .with_prefix(part.to_owned());
        Progress(Some(bar))
    }

    /// Shows what is being measured now.
    pub fn show(&self, now: &str) {
        if let Some(bar) = &self.0 {
            bar.set_position(u64::try_from(bar.elapsed().as_millis()).unwrap_or(u64::MAX));
            bar.set_message(now.to_owned());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
