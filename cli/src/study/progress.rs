//! Shows the progress of a study: the current measurement and the time left. On a terminal it is a
//! bar, otherwise a line for each experiment.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::progress::say;

pub struct Progress {
    start: Instant,
    time: Duration,
    bar: Option<ProgressBar>,
    /// The last experiment that was announced without a bar.
    announced: RefCell<String>,
}

impl Progress {
    /// Shows the progress of a study that takes `time`.
    pub fn start(time: Duration) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("[{bar:24}] {prefix} left  {wide_msg}")
                .expect("the template is valid");
            ProgressBar::new(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).with_style(style)
        });
        Progress {
            start: Instant::now(),
            time,
            bar,
            announced: RefCell::default(),
        }
    }

    /// Shows the current measurement: an experiment and, after a colon, a cell of it.
    pub fn show(&self, now: &str) {
        let gone = self.start.elapsed();
        let left = minutes(self.time.saturating_sub(gone));
        match &self.bar {
            Some(bar) => {
                bar.set_position(u64::try_from(gone.as_millis()).unwrap_or(u64::MAX));
                bar.set_prefix(left);
                bar.set_message(now.to_owned());
            }
            None => {
                let experiment = now.split(": ").next().unwrap_or(now);
                if self.announced.replace(experiment.to_owned()) != experiment {
                    say(&format!("{experiment}; {left} left"));
                }
            }
        }
    }

    /// Prints a line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Formats a time as "1:05".
fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn time_is_shown_in_minutes() {
        assert_eq!(super::minutes(Duration::from_secs(65)), "1:05");
    }
}
